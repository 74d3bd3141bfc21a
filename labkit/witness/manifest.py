"""What lies in a directory of captures or recordings, told from the files themselves: manifest.toml.

python -m labkit.witness.manifest data/captures data/recordings
"""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labkit.witness.demos import DEMOS

NAME = "manifest.toml"
_HEAD = "# Made by python -m labkit.witness.manifest from the files themselves; a test holds them together.\n"


def manifest(directory: Path) -> str:
    """Return the manifest of the captures and recordings in `directory`, and below it: a table for each file."""
    return _HEAD + "".join(_table(path, directory) for path in _files(directory))


def write(directory: Path) -> Path:
    """Write the manifest of `directory` into it; return its path."""
    path = directory / NAME
    path.write_text(manifest(directory), "utf-8")
    return path


def _files(directory: Path) -> Iterator[Path]:
    yield from sorted([*directory.rglob("*.json"), *directory.rglob("*.json.gz")])


def _table(path: Path, directory: Path) -> str:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        kept = json.load(file)
    lines = "".join(
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in _facts(kept).items() if value
    )
    return f"\n[{json.dumps(str(path.relative_to(directory)))}]\n{lines}"


def _facts(kept: dict[str, Any]) -> dict[str, str]:
    """Return the kernel, the date, how the file was made, and what it is."""
    if str(kept.get("format", "")).startswith("labkit-capture"):
        date = str(kept.get("date", ""))[:10] or "not noted"
        return {"what": kept["note"].strip(), "kernel": _release(kept), "date": date, "how": _how(kept)}
    recorded = kept.get("recorded") or kept["meta"]["recorded"]
    made = {"kernel": recorded["kernel"], "date": recorded["date"]}
    return {"what": _what(kept), **made, "how": "python -m labkit.witness.record data/recordings"}


def _release(kept: dict[str, Any]) -> str:
    """Return the version of a kernel without what its builder adds."""
    return str(kept["kernel"]).partition("-")[0].partition("+")[0]


def _how(kept: dict[str, Any]) -> str:
    """Return on what a capture was made, and what told of it."""
    told = ["tracefs", "pagemap", *(["BPF"] if kept.get("bios") else [])]
    if "qemu" in kept:
        return f"{', '.join(told)}, and the drive's side, in QEMU {kept['qemu']}"
    device, backing = kept["device"], "direct" if kept["device"]["backing_dio"] else "buffered"
    return f"{', '.join(told)}, on a loop device with {device['fs'] or 'no filesystem'} and {backing} backing IO"


def _what(kept: dict[str, Any]) -> str:
    """Return what a recording shows: a demonstration's title, or the run of a trace."""
    if "name" in kept:
        return DEMOS[kept["name"]].title
    scenario = kept["meta"]["scenario"]
    return f"one {scenario['op']} of {scenario['size']} bytes on a real {scenario['device']} device"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(write(Path(argument)))  # noqa: T201
