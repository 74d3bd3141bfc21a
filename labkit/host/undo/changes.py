"""Changes of this machine that outlive a process become notes, and are taken back at every exit.

Two processes may change one setting. Each notes what it said before anybody of them did. Who ends gives the setting to
the latest of those that are left, else to what it said before; where it says something else meanwhile, it stays.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from labkit.errors import BadInput, LabkitError, NotAllowed
from labkit.host import signals
from labkit.host.calls import mounts
from labkit.host.refusal import speaking
from labkit.host.undo import exits, ledger, leftovers, private, settings
from labkit.host.undo.ledger import Ledger, Notes, Setting
from labkit.host.wait import wait_until

_BUSY_SECONDS = 1.0
_MISSING = {errno.ENOENT: "is no setting of this kernel: run one that has it"}

_NOWHERE = {errno.ENOENT: "is no directory: set TMPDIR to one of this user"}


class Undo:
    """What this machine said before, and what was made in it; a context manager, which takes everything back.

    It serves one thread. At SIGTERM, SIGHUP and the exit of the interpreter it is done as well; after SIGKILL the
    next `sweep` does it.
    """

    def __init__(self) -> None:
        """Take back what dead owners left; nothing is written before something is changed."""
        self._ledger: Ledger | None = None
        self._pid = os.getpid()
        sweep()

    def put(self, path: Path, value: str) -> str:
        """Write `value` into the setting `path`, noted first; return the word that it said before.

        Raises BadInput for what is no setting of labkit's, NotAllowed, SyscallError.
        """
        key = str(path)
        settings.check(key, value)
        with signals.held(), speaking("undo", f"{key} = {value}", _MISSING):
            return self._put(key, value)

    def _put(self, key: str, value: str) -> str:
        setting = settings.opened(key)
        try:
            book = self._book()
            with book.alone():
                now = settings.read(setting)
                settings.check(key, now)
                before = _origin(key, now, book)
                book.change(key, before, "", value)
                try:
                    settings.write(setting, value)
                finally:
                    book.change(key, before, settings.read(setting), value)
        finally:
            os.close(setting)
        return now

    def note_place(self, directory: Path | None) -> None:
        """Note that this process has marked files below `directory` (the temporary directory if None).

        Raises NotAllowed where there is none, or no room for the note.
        """
        with signals.held(), speaking("undo", str(directory or "TMPDIR"), _NOWHERE):
            self._book().note({"place": str(private.home(directory).parent)})

    def make_instance(self, name: str) -> Path:
        """Make the trace instance `name`, labkit-<pid>-<8 hex digits>, noted first; return its path.

        Raises NotAllowed where this user or machine has no tracefs, BadInput, SyscallError EEXIST, ENOMEM.
        """
        if not ledger.INSTANCE.fullmatch(name):
            raise BadInput("undo", f"instance {name[:80]!r}", "is not named labkit-<pid>-<8 hex digits>", errno.EINVAL)
        path = mounts.tracefs() / "instances" / name
        with signals.held(), speaking("undo", f"instance {name}"):
            book = self._book()
            book.note({"instance": name})
            try:
                path.mkdir()
            except OSError:
                book.note({"back": name})
                raise
        return path

    def drop_instance(self, path: Path) -> None:
        """Remove the instance `path`, if it is there still. Raises NotAllowed EBUSY while its files are open."""
        with signals.held(), speaking("undo", f"instance {path.name}"):
            if self._ledger and path.name in self._ledger.notes.made and self._pid == os.getpid():
                _remove_instance(path.name)
                self._ledger.note({"back": path.name})

    def back(self, under: Path = Path("/")) -> None:
        """Take back what was changed and made, newest first; of settings only those below `under`.

        A setting is taken back only where it still says what was put. Everything is tried; then the first error is
        raised, and what could not be taken back is left to the next sweep.
        """
        book = self._ledger
        if book is None or self._pid != os.getpid():
            self._close(mine=False)
            return
        bad: list[LabkitError] = []
        with signals.held():
            with _collected(bad, "what was changed"), book.alone():
                others = book.others()
                for key in [key for key in reversed(book.notes.made) if _is_below(key, under)]:
                    with _collected(bad, key):
                        _take_back(key, book.notes, others)
                        book.note({"back": key})
            if under == Path("/"):
                self._close(mine=True)
        if bad:
            raise bad[0]

    def close(self) -> None:
        """Take everything back; a second call does nothing. Errors: those of `back`."""
        self.back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(*([LabkitError] if error else [])):  # the first error is the one to tell
            self.back()

    def _book(self) -> Ledger:
        """Return the ledger, which is made when something is changed first. Raises OSError, NotAllowed."""
        if self._ledger is None:
            self._ledger = Ledger()
            exits.hold(self)
        return self._ledger

    def _close(self, *, mine: bool) -> None:
        book, self._ledger = self._ledger, None
        if book is not None:
            book.close(mine)
            exits.release(self)


def sweep(directory: Path | None = None) -> list[str]:
    """Remove what killed runs of this user left, take back what they changed; return one line for each thing.

    That is what stands in the ledgers of dead owners, and marked devices and files (host/leftovers.py), also those
    below `directory` and in the places of those ledgers. Raises nothing: what this machine does not allow now (EBUSY)
    stays noted.
    """
    dead, places = list[Path](), {directory} if directory else set[Path]()
    for path in _each_dead():
        dead.append(path)
        places |= ledger.read(path).places
    lines = leftovers.sweep(places)  # first: a ledger that is gone tells no places
    for path in _each_dead():
        if path in dead:
            lines += _take_all_back(path)
    return lines


def _each_dead() -> Iterator[Path]:
    """Yield each ledger without a living owner, held, and with its directory held."""
    for place in ledger.PLACES:
        home = private.home(place)
        with contextlib.suppress(OSError), private.locked(home) as directory:
            for name in ledger.names(directory):
                with contextlib.suppress(OSError), private.opened(name, directory) as fd:
                    if not private.is_held(fd):
                        yield home / name
            private.rmdir(home)


def _take_all_back(path: Path) -> list[str]:
    """Take back what the ledger `path` says, which is held; return a line for each thing."""
    notes, lines, bad = ledger.read(path), list[str](), list[LabkitError]()
    others = [
        ledger.read(other) for other in path.parent.iterdir() if ledger.NAME.fullmatch(other.name) and other != path
    ]
    for key in reversed(notes.made):
        with _collected(bad, key):
            lines += _take_back(key, notes, others)
    if not any(isinstance(no, NotAllowed) for no in bad):  # what the kernel takes from nobody is not tried again
        lines += map(str, bad)
        with contextlib.suppress(OSError):
            path.unlink()
    return lines


@contextlib.contextmanager
def _collected(bad: list[LabkitError], what: str) -> Iterator[None]:
    """Put what is raised within it into `bad`, as a sentence about `what`."""
    try:
        with speaking("undo", what):
            yield
    except LabkitError as no:
        bad.append(no)


def _is_below(key: str, under: Path) -> bool:
    return Path(key).is_relative_to(under) or under == Path("/")


def _origin(key: str, now: str, book: Ledger) -> str:
    """Return what `key` said before labkit changed it: who says `now` by a note knows."""
    mine = book.notes.setting(key)
    if mine and mine.is_ours(now):
        return mine.before
    return next((note.before for note in _of(key, book.others()) if note.is_ours(now)), now)


def _of(key: str, others: list[Notes]) -> list[Setting]:
    """Return what `others` note of the setting `key`, the latest first."""
    found = [note for notes in others if (note := notes.setting(key))]
    return sorted(found, key=lambda note: note.at, reverse=True)


def _take_back(key: str, notes: Notes, others: list[Notes]) -> list[str]:
    """Take back what is noted as `key`; return a line if something was to be done. Raises OSError, NotAllowed."""
    note = notes.setting(key)
    if note is None:
        return [f"trace instance {key}"] if _remove_instance(key) else []
    try:
        setting = settings.opened(key)
    except FileNotFoundError:  # the device is gone, with its settings
        return []
    try:
        now = settings.read(setting)
        left = [each.put for each in _of(key, others) if each.put]
        wanted = left[0] if left else note.before
        if now == wanted or not (note.put == "" or note.is_ours(now)):
            return []
        settings.write(setting, wanted)
    finally:
        os.close(setting)
    return [f"{key} = {now} (is {wanted} again)"]


def _remove_instance(name: str) -> bool:
    """Remove the trace instance `name`; return whether it was there. Raises NotAllowed EBUSY."""
    path = mounts.tracefs() / "instances" / name
    if not path.exists():
        return False
    with contextlib.suppress(OSError):
        (path / "tracing_on").write_text("0")
    if not wait_until(lambda: _is_gone(path), _BUSY_SECONDS):
        raise NotAllowed("undo", f"instance {name}", "is in use: close its files", errno.EBUSY)
    return True


def _is_gone(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.exists()
