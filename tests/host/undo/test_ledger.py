import fcntl
import os
import threading
from pathlib import Path

import pytest

from labkit.errors import NotAllowed
from labkit.host.undo import ledger
from labkit.host.undo.ledger import Ledger, Setting, read

PATH = "/sys/block/loop0/queue/nomerges"
GOOD = f'{{"setting": "{PATH}", "before": "0", "put": "2", "at": 7}}'
BOOT = f'{{"boot": "{ledger.boot()}"}}'


@pytest.fixture
def book():
    made = Ledger()
    yield made
    made.close(mine=True)


@pytest.fixture
def written(tmp_path):
    """A ledger with these lines, private to this user."""

    def write(*lines):
        path = tmp_path / "labkit-undo-1-0123456789abcdef.jsonl"
        path.touch(0o600)
        path.write_text("\n".join(lines))
        return path

    return write


def test_what_is_noted_is_read_again_in_the_order_of_the_first_note(book):
    book.change(PATH, "0", "", "")
    book.note({"instance": "labkit-12-0123abcd"})
    book.note({"place": "/srv/other"})
    book.change(PATH, "0", "2", "2")
    notes = read(book.path)
    assert list(notes.made) == [PATH, "labkit-12-0123abcd"] == list(book.notes.made)
    assert notes.setting(PATH)[:3] == (PATH, "0", "2")
    assert notes.places == {Path("/srv/other")} == book.notes.places
    book.note({"back": PATH})
    assert list(read(book.path).made) == ["labkit-12-0123abcd"] == list(book.notes.made)


def test_a_note_of_a_setting_is_one_line_of_a_write():
    book, lines = Ledger(), []
    real = os.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda fd, line: lines.append(line) or real(fd, line))
        book.change(PATH, "0", "2", "2")
    book.close(mine=False)
    assert len(lines) == 1
    assert lines[0].count(b"\n") == 1
    assert read(book.path).setting(PATH) == book.notes.setting(PATH)
    book.path.unlink()


def test_it_is_this_users_alone_and_goes_when_nothing_stands_in_it(place):
    book = Ledger()
    assert book.path.parent == place / f"labkit-{os.geteuid()}"
    assert (book.path.stat().st_mode & 0o777, book.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    book.close(mine=True)
    assert list(place.iterdir()) == []


def test_with_a_note_it_stays(place):
    book = Ledger()
    book.change(PATH, "0", "2", "2")
    book.close(mine=True)
    assert [path.name for path in place.glob("*/*")] == [book.path.name]


def test_the_next_place_is_taken_where_one_does_not_take_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "PLACES", (tmp_path / "nowhere", tmp_path))
    book = Ledger()
    assert book.path.parent.parent == tmp_path
    book.close(mine=True)


def test_without_a_place_nothing_may_be_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "PLACES", (tmp_path / "nowhere",))
    with pytest.raises(
        NotAllowed, match=r"undo: a note in .*/nowhere can be written nowhere: make room .* \(-EACCES\)"
    ):
        Ledger()


def test_a_place_that_is_full_is_not_taken_and_nothing_is_left_in_it(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "full")

    fds = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NotAllowed):
        Ledger()
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == fds


def test_others_are_read_and_not_oneself(book):
    other = Ledger()
    other.change(PATH, "0", "1", "1")
    with book.alone():
        (notes,) = book.others()
    assert notes.setting(PATH).put == "1"
    other.note({"back": PATH})
    other.close(mine=True)


def test_a_good_line_is_taken(written):
    assert read(written(BOOT, GOOD)).setting(PATH) == Setting(PATH, "0", "2", 7)


@pytest.mark.parametrize(
    "line",
    [
        GOOD[:-5],
        "[1]",
        "7",
        GOOD.replace("loop0", "vda"),
        GOOD.replace(PATH, "/etc/passwd"),
        GOOD.replace('"0"', '"0\\n/bin/sh"'),
        GOOD.replace('"2"', '"; rm"'),
        GOOD[:-1] + ', "asked": "; rm"}',
        GOOD.replace('"0"', "0"),
        '{"instance": "../../x"}',
        '{"instance": "labkit-1-../abcd"}',
        '{"instance": "somebody"}',
        '{"place": "relative"}',
        '{"unknown": 1}',
        "\x00\xff",
    ],
)
def test_a_ledger_is_data_and_what_it_may_not_say_is_not_there(written, line):
    notes = read(written(BOOT, line, GOOD.replace("loop0", "loop1")))
    assert list(notes.made) == [PATH.replace("loop0", "loop1")]
    assert notes.places == set()


def test_the_ledger_of_another_boot_says_nothing(written):
    assert read(written('{"boot": "another"}', GOOD)).made == {}
    assert read(written(GOOD)).made == {}
    assert read(written("")).made == {}


def test_a_ledger_that_others_may_write_says_nothing(written):
    path = written(BOOT, GOOD)
    path.chmod(0o666)
    assert read(path).made == {}


def test_a_link_is_not_followed(written, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(written(BOOT, GOOD))
    assert read(link).made == {}
    assert read(tmp_path / "nowhere").made == {}


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"place": "/\\u0000"}', '{"place": "/\\ud800"}', '{"place": "here"}'],
    ids=["deep", "nul", "surrogate", "relative"],
)  # fmt: skip
def test_a_line_that_nobody_could_have_written_is_left_out(written, line):
    notes = read(written(BOOT, line, GOOD))
    assert (list(notes.made), notes.places) == ([PATH], set())


def test_a_place_may_have_any_name_that_a_directory_may_have(book):
    book.note({"place": os.fsdecode(b"/srv/\xff")})
    assert read(book.path).places == {Path(os.fsdecode(b"/srv/\xff"))}


def test_one_at_a_time_has_the_directory_for_itself(book):
    held = os.open(book.path.parent, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    done = threading.Event()

    def look():
        with book.alone():
            done.set()

    asking = threading.Thread(target=look)
    asking.start()
    waited = not done.wait(0.05)
    os.close(held)
    asking.join(5)
    assert (waited, done.is_set()) == (True, True)
