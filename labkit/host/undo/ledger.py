"""What was changed outside this process, written down before it is done: a file of one JSON object a line.

A ledger lies in a private directory, where every later call of this user finds it, whatever TMPDIR says. Its owner
holds an flock on it. It is data: what is read from it is checked, and what it does not allow by name is not there.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from labkit.errors import LabkitError, NotAllowed
from labkit.host.undo import private, settings

NAME = re.compile(r"labkit-undo-\d+-[0-9a-f]{16}\.jsonl")
INSTANCE = re.compile(r"labkit-\d+-[0-9a-f]{8}", re.ASCII)
PLACES = (Path("/run"), Path("/dev/shm"), Path("/var/tmp"))  # noqa: S108 - the directory below is private
"""Where a ledger may lie, the best first: what is forgotten at a boot, as the settings are."""
_PIECE = 1 << 20
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Setting(NamedTuple):
    """What the setting `path` said at first; what it says since `at` (ns), '' while it is being changed.

    `asked`: what was written into it. The kernel rounds (max_sectors_kb to whole logical blocks), and says another
    number again when the device is gone, and its blocks with it.
    """

    path: str
    before: str
    put: str
    at: int
    asked: str = ""

    def is_ours(self, now: str) -> bool:
        """Return whether a setting that says `now` says what was put there."""
        return now in {self.put, self.asked}


class Notes:
    """What stands in a ledger, in the order of the first note of each: settings by their path, instances, places."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.made: dict[str, Setting | None] = {}
        """By path or name: a setting, or None for a trace instance."""
        self.places: set[Path] = set()

    def take(self, row: dict[str, Any]) -> None:
        """Take one line of a ledger. What is not as it should be is left out."""
        match row:
            case {"setting": str(path), "before": str(before), "put": str(put), "at": int(at)}:
                asked = str(row.get("asked", ""))
                if all(settings.may_change(path, word) for word in (before, put or before, asked or before)):
                    self.made[path] = Setting(path, before, put, at, asked)
            case {"instance": str(name)} if INSTANCE.fullmatch(name):
                self.made[name] = None
            case {"place": str(place)} if _is_path(place):
                self.places.add(Path(place))
            case {"back": str(key)}:
                self.made.pop(key, None)

    def setting(self, path: str) -> Setting | None:
        """Return the note of the setting `path`, None where there is none."""
        return self.made.get(path)


class Ledger:
    """A ledger of this process, which lives as long as it is open."""

    def __init__(self) -> None:
        """Make it in the first place that takes it. Raises NotAllowed where there is none."""
        self.notes = Notes()
        for place in PLACES:
            with contextlib.suppress(OSError, LabkitError):
                self._begin(private.home(place))
                return
        rule = "can be written nowhere: make room in one of them for this user"
        raise NotAllowed("undo", f"a note in {', '.join(map(str, PLACES))}", rule, errno.EACCES)

    def _begin(self, home: Path) -> None:
        """Make the file in `home`, and write the first line. Raises OSError, NotAllowed; nothing is left then."""
        self.path, self._fd = private.create(home, "labkit-undo", ".jsonl")
        try:
            self._place = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.note({"boot": boot()})
            except BaseException:
                os.close(self._place)
                raise
        except BaseException:
            private.remove(self.path)
            os.close(self._fd)
            raise

    def note(self, row: dict[str, Any]) -> None:
        """Write one line, in one piece, and take it. Raises OSError: then nothing may be changed."""
        os.write(self._fd, json.dumps(row).encode() + b"\n")
        self.notes.take(row)

    def change(self, path: str, before: str, put: str, asked: str) -> None:
        """Note a setting that `settings.check` has let pass, as `note` does and faster. Raises OSError."""
        at = time.monotonic_ns()
        line = f'{{"setting": "{path}", "before": "{before}", "put": "{put}", "at": {at}, "asked": "{asked}"}}\n'
        os.write(self._fd, line.encode("ascii"))
        self.notes.made[path] = Setting(path, before, put, at, asked)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other ledger of this user as it is meanwhile, and each sweep away. Raises NotAllowed EAGAIN."""
        private.lock(self._place, str(self.path.parent))
        try:
            yield
        finally:
            fcntl.flock(self._place, fcntl.LOCK_UN)

    def others(self) -> list[Notes]:
        """Return the notes of every other ledger in its directory, which is held."""
        return [read(self.path.parent / name) for name in names(self._place) if name != self.path.name]

    def close(self, mine: bool) -> None:
        """Close it; it goes when it is `mine` and nothing stands in it, else the next sweep does what it says."""
        if mine and not self.notes.made:
            with contextlib.suppress(OSError):
                private.remove(self.path)
        os.close(self._fd)
        os.close(self._place)


def names(directory: int) -> list[str]:
    """Return the names of the ledgers in `directory` (an fd). Raises OSError."""
    return sorted(name for name in os.listdir(directory) if NAME.fullmatch(name))


def boot() -> str:
    """Return what tells this boot of the machine from others."""
    with contextlib.suppress(OSError):
        return _BOOT.read_text("ascii").strip()
    return ""


def read(path: Path) -> Notes:
    """Return what stands in the ledger `path`: nothing, when it is not this user's alone, or of another boot."""
    notes = Notes()
    with contextlib.suppress(OSError), private.opened(str(path)) as fd:
        if private.is_private(fd):
            rows = [row for line in _whole(fd).splitlines() if isinstance(row := _parsed(line), dict)]
            if rows and rows[0].get("boot") == boot():
                for row in rows:
                    notes.take(row)
    return notes


def _is_path(text: str) -> bool:
    """Return whether `text` can be the path of a directory: absolute, and in bytes that a kernel takes."""
    with contextlib.suppress(UnicodeEncodeError):
        return text.startswith("/") and b"\0" not in os.fsencode(text)
    return False


def _whole(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, _PIECE), b""))


def _parsed(line: bytes) -> Any:
    """Return the JSON in `line`, None for a line that was cut off, or nests too deep for anybody to have written it."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
