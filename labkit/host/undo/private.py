"""A private directory of this user, and files in it that live as long as their owner: it holds an flock on each.

A name without a living owner is a leftover, whoever sees it.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from labkit.errors import NotAllowed
from labkit.host.wait import wait_until

_TRIES = 16
_LOCK_SECONDS = 10.0


def home(directory: Path | None) -> Path:
    """Return the private directory of this user below `directory` (the temporary directory if None).

    Without symbolic links, as sysfs shows it. Raises OSError when the machine has no temporary directory.
    """
    base = Path(tempfile.gettempdir()) if directory is None else directory
    return Path(os.path.realpath(base)) / f"labkit-{os.geteuid()}"


def create(place: Path, stem: str, suffix: str) -> tuple[Path, int]:
    """Make the empty file `stem`-<pid>-<random>`suffix` in `place`; return its path and an fd that holds the flock.

    Raises OSError, and NotAllowed when `place` belongs to somebody else.
    """
    try:
        for _ in range(_TRIES):
            with contextlib.suppress(FileExistsError):
                place.mkdir(0o700)
            # ENOENT: between mkdir and open another run has removed the directory, which was empty.
            with contextlib.suppress(FileNotFoundError), locked(place) as directory:
                name = f"{stem}-{os.getpid()}-{secrets.token_hex(8)}{suffix}"
                return place / name, _create_locked(name, directory)
    except BaseException:
        rmdir(place)
        raise
    raise FileNotFoundError(errno.ENOENT, "removed again and again", str(place))


def remove(path: Path) -> None:
    """Unlink the file `path`, and its directory when it was the last one; what is gone already is fine."""
    path.unlink(missing_ok=True)
    rmdir(path.parent)


def sweep(place: Path, name: re.Pattern[str], in_use: Callable[[], set[Path]]) -> list[str]:
    """Unlink the files `name` in `place` that have no living owner and are not `in_use`; return their paths.

    Raises nothing: what cannot be removed is left.
    """
    with contextlib.suppress(OSError), locked(place) as directory:
        used = in_use()
        found = sorted(os.listdir(directory))  # noqa: PTH208  # by fd: the directory that is held, whatever its name
        dead = [file for file in found if name.fullmatch(file) and place / file not in used]
        removed = [str(place / file) for file in dead if _unlink_dead(file, directory)]
        rmdir(place)
        return removed
    return []


@contextlib.contextmanager
def opened(path: str, directory: int | None = None) -> Iterator[int]:
    """Yield a read-only fd of `path`, in `directory` (an fd) if given, following no link. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(place: Path) -> Iterator[int]:
    """Hold the private directory `place`, and yield an fd of it.

    Without it a sweep could see a file in the instant between its creation and its flock. Raises OSError, and
    NotAllowed when the directory belongs to somebody else, who could plant files in it.
    """
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not is_private(directory):
            rule = "is not private to this user: remove it, or set TMPDIR to another directory"
            raise NotAllowed("loop", str(place), rule, errno.EPERM)
        lock(directory, str(place))
        yield directory
    finally:
        os.close(directory)


def is_private(fd: int) -> bool:
    """Return whether the file `fd` belongs to this user, and nobody else may use it."""
    status = os.fstat(fd)
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077


def lock(fd: int, what: str) -> None:
    """Hold an flock on the file `fd`, which is `what`, until the close.

    Raises NotAllowed EAGAIN where somebody else keeps it for 10 s: a run that was stopped, say.
    """
    if not wait_until(lambda: not is_held(fd), _LOCK_SECONDS):
        raise NotAllowed("undo", what, "is held by a run that does not go on: end that one", errno.EAGAIN)


def is_held(fd: int) -> bool:
    """Return whether somebody else holds an flock on the file `fd`; if not, it is held until the close."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _unlink_dead(name: str, directory: int) -> bool:
    """Unlink the file `name` in `directory` (an fd) if it has no living owner; return whether that was done."""
    with contextlib.suppress(OSError), opened(name, directory) as file:
        if not is_held(file):
            os.unlink(name, dir_fd=directory)
            return True
    return False


def _create_locked(name: str, directory: int) -> int:
    """Create the file `name` in `directory` (an fd), which is held, and return an fd of it with the flock."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        os.unlink(name, dir_fd=directory)
        raise
    return fd


def rmdir(place: Path) -> None:
    """Remove the directory `place` when it is empty."""
    with contextlib.suppress(OSError):
        place.rmdir()
