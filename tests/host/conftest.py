"""What the tests of the real floor share: a place of their own, processes to kill, and a look at what is left."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from labkit.host.calls import loop_ioctl
from labkit.host.undo import ledger

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A temporary directory that is the default one here and in children, and the place of ledgers."""
    monkeypatch.setattr(ledger, "PLACES", (tmp_path,))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.fixture
def left(place):
    """What lies in the place: the loop devices over its files, and the files themselves."""

    def look():
        devices = [f"/dev/loop{number}" for number, path in loop_ioctl.attached() if path.startswith(f"{place}/")]
        files = sorted(path.name for path in place.glob(f"labkit-{os.geteuid()}/*"))
        return devices, files

    return look


@pytest.fixture
def start(place):
    """Start a Python child with `script`; it is killed when the test ends, and its pipes are closed."""
    children = []
    ledgers = f"import pathlib; from labkit.host.undo import ledger; ledger.PLACES = (pathlib.Path({str(place)!r}),)\n"

    def begin(script):
        child = subprocess.Popen(
            [sys.executable, "-c", ledgers + script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=place,
        )
        children.append(child)
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture
def losetup():
    """Attach a file by losetup, as a stranger would; what is attached still is detached when the test ends."""
    mine = []

    def attach(path):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            path.write_bytes(bytes(1 << 20))
        done = subprocess.run(["losetup", "-f", "--show", path], check=True, capture_output=True, text=True)
        mine.append((done.stdout.strip(), path))
        return done.stdout.strip()

    yield attach
    for device, path in mine:
        if loop_ioctl.backing_file(int(device.removeprefix("/dev/loop"))).startswith(str(path)):
            subprocess.run(["losetup", "-d", device], check=True)
