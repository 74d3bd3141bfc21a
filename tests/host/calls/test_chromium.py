import os
import signal
import subprocess
import sys
import time

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.calls import chromium


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a shell script first on PATH, under Chromium's name; temporary files are counted in `room`."""
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))

    def put(script):
        path = tmp_path / "chromium"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return room

    return put


FIND = (
    'for a in "$@"; do case $a in --screenshot=*) out=${a#--screenshot=};; --window-size=*) size=${a#*=};; esac; done'
)


def test_the_picture_is_what_the_browser_writes(stand_in):
    room = stand_in(f'{FIND}; printf "png %s" "$size" > "$out"')
    assert chromium.screenshot("<p>", 320, 200) == b"png 320,200"
    assert list(room.iterdir()) == []


def test_the_figure_is_the_text_that_the_page_leaves(stand_in):
    room = stand_in("""echo '<body><pre id="figure">&lt;svg a="1"&gt;</pre></body>'""")
    assert chromium.figure("<p>", 320, 200) == '<svg a="1">'
    assert list(room.iterdir()) == []


def test_the_page_is_opened_from_a_file_without_a_network(stand_in):
    stand_in('printf "<pre id=\\"figure\\">%s</pre>" "$*"')
    told = chromium.figure("<p>", 320, 200)
    assert "--host-resolver-rules=MAP * ~NOTFOUND" in told
    assert told.endswith("/page.html")
    assert "file:///" in told


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("exit 7", "chromium: the page is not drawn: exit code 7 (-EIO)"),
        ("true", "chromium: the page was not drawn (-EIO)"),
    ],
)
def test_a_browser_that_draws_nothing_is_one_sentence(stand_in, script, sentence):
    room = stand_in(script)
    with pytest.raises(SyscallError) as caught:
        chromium.screenshot("<p>", 320, 200)
    assert str(caught.value) == sentence
    assert list(room.iterdir()) == []


def test_a_page_that_leaves_no_figure_is_one_sentence(stand_in):
    stand_in("echo '<body></body>'")
    with pytest.raises(SyscallError, match=r"chromium: the page leaves no figure \(-EIO\)"):
        chromium.figure("<p>", 320, 200)


def test_a_browser_that_hangs_is_ended_with_all_its_children(stand_in, monkeypatch, tmp_path):
    monkeypatch.setattr(chromium, "_SECONDS", 0.5)
    room = stand_in(f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(SyscallError, match=r"takes more than 0 s \(-ETIMEDOUT\)"):
        chromium.screenshot("<p>", 320, 200)
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 5
    while _lives(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _lives(pid)
    assert list(room.iterdir()) == []


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123 - it may go meanwhile
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_without_a_browser_it_is_not_allowed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotAllowed, match="apt-get install chromium"):
        chromium.screenshot("<p>", 320, 200)


def test_what_a_killed_run_left_goes_with_the_next_call_and_what_lives_stays(stand_in):
    room = stand_in(f'{FIND}; printf x > "$out"')
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from labkit.host.calls import chromium\n"
        "with chromium._place() as place:\n    print(place, flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(room)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        place = other.stdout.readline().strip()
        chromium.screenshot("<p>", 320, 200)
        assert [str(path) for path in room.iterdir()] == [place]
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert [str(path) for path in room.iterdir()] == [place]
    chromium.screenshot("<p>", 320, 200)
    assert list(room.iterdir()) == []
