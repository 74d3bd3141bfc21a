"""The mark by which labkit knows its own backing files, and the removal of what a killed run left.

The mark is the path `labkit-<uid>/labkit-loop-<pid>-<random>.img`; a living owner holds an flock on the file.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from labkit.errors import NotAllowed
from labkit.host import loop_ioctl
from labkit.host.wait import wait_until

_NAME = re.compile(r"labkit-loop-\d+-[0-9a-f]{16}\.img")
_DELETED = " (deleted)"
_CLEAR_SECONDS = 2.0
_TRIES = 16


def home(directory: Path | None) -> Path:
    """Return the private directory of this user below `directory` (the temporary directory if None).

    Without symbolic links, as sysfs shows it. Raises OSError when the machine has no temporary directory.
    """
    base = Path(tempfile.gettempdir()) if directory is None else directory
    return Path(os.path.realpath(base)) / f"labkit-{os.geteuid()}"


def create(place: Path) -> tuple[Path, int]:
    """Make an empty marked file in the directory `place`; return its path and an fd that holds the flock.

    Raises OSError, and NotAllowed when `place` belongs to somebody else.
    """
    try:
        for _ in range(_TRIES):
            with contextlib.suppress(FileExistsError):
                place.mkdir(0o700)
            # ENOENT: between mkdir and open another run has removed the directory, which was empty.
            with contextlib.suppress(FileNotFoundError), _locked(place) as directory:
                name = f"labkit-loop-{os.getpid()}-{secrets.token_hex(8)}.img"
                return place / name, _create_locked(name, directory)
    except BaseException:
        _rmdir(place)
        raise
    raise FileNotFoundError(errno.ENOENT, "removed again and again", str(place))


def remove(path: Path) -> None:
    """Unlink the marked file `path`, and its directory when it was the last one; what is gone already is fine."""
    path.unlink(missing_ok=True)
    _rmdir(path.parent)


def sweep(directory: Path | None = None) -> list[str]:
    """Remove what killed runs of this user left, and return one line for each thing removed.

    Marked loop devices without a living owner are detached, marked files without one are unlinked: those in the
    temporary directory, below `directory`, and behind marked devices. Anything else is not touched. Raises nothing:
    what cannot be removed is left.
    """
    removed: list[str] = []
    with contextlib.suppress(OSError):
        devices = tuple(_marked_devices())
        for number, backing in devices:
            if _clear_dead(number, backing):
                removed.append(f"/dev/loop{number} (detached from {backing})")
        for place in sorted({home(None), home(directory), *(backing.parent for _, backing in devices)}):
            removed += _sweep_files(place)
    return removed


def marked(backing: str) -> Path | None:
    """Return the path in a sysfs `backing_file` when it carries this user's mark, else None."""
    path = Path(backing.removesuffix(_DELETED))
    ours = path.parent.name == f"labkit-{os.geteuid()}" and _NAME.fullmatch(path.name)
    return path if ours else None


def _marked_devices() -> Iterator[tuple[int, Path]]:
    """Yield number and backing file of every loop device that carries the mark."""
    for number, backing in loop_ioctl.attached():
        if path := marked(backing):
            yield number, path


def _clear_dead(number: int, backing: Path) -> bool:
    """Detach /dev/loop`number` if its owner is dead; return whether that was done.

    While the device is open here nobody can attach another file to it, so the second look at sysfs is final. Should
    an owner live after all, it has the device open, and then LOOP_CLR_FD detaches nothing.
    """
    try:
        with _opened(f"/dev/loop{number}") as loop:
            if marked(loop_ioctl.backing_file(number)) != backing or _owner_lives(loop, backing):
                return False
            loop_ioctl.clr_fd(loop)
    except OSError:  # ENXIO: its owner is detaching it just now
        return False
    return wait_until(lambda: marked(loop_ioctl.backing_file(number)) != backing, _CLEAR_SECONDS)


def _owner_lives(loop: int, backing: Path) -> bool:
    """Return whether a process holds the flock on the file behind `loop` (an fd), even when the file is unlinked."""
    try:
        with _opened(str(backing)) as file:
            return _is_held(file)
    except FileNotFoundError:
        inode = re.compile(rf"FLOCK .*:{loop_ioctl.lo_inode(loop)} ")
        return bool(inode.search(Path("/proc/locks").read_text()))


def _is_held(file: int) -> bool:
    """Return whether somebody else holds an flock on `file` (an fd); if not, it is held until the close."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _sweep_files(place: Path) -> list[str]:
    """Unlink the marked files in `place` that have no living owner and no device; return their paths."""
    with contextlib.suppress(OSError), _locked(place) as directory:
        in_use = {backing for _, backing in _marked_devices()}
        names = sorted(os.listdir(directory))  # noqa: PTH208  # by fd: the directory that is held, whatever its name
        dead = [name for name in names if _NAME.fullmatch(name) and place / name not in in_use]
        removed = [str(place / name) for name in dead if _unlink_dead(name, directory)]
        _rmdir(place)
        return removed
    return []


def _unlink_dead(name: str, directory: int) -> bool:
    """Unlink the file `name` in `directory` (an fd) if it has no living owner; return whether that was done."""
    with contextlib.suppress(OSError), _opened(name, directory) as file:
        if not _is_held(file):
            os.unlink(name, dir_fd=directory)
            return True
    return False


@contextlib.contextmanager
def _opened(path: str, directory: int | None = None) -> Iterator[int]:
    """Yield a read-only fd of `path`, in `directory` (an fd) if given, following no link. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[int]:
    """Hold the private directory `place`, and yield an fd of it.

    Without it a sweep could see a file in the instant between its creation and its flock. Raises OSError, and
    NotAllowed when the directory belongs to somebody else, who could plant files in it.
    """
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(directory)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            rule = "is not private to this user: remove it, or set TMPDIR to another directory"
            raise NotAllowed("loop", str(place), rule, errno.EPERM)
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(directory)


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


def _rmdir(place: Path) -> None:
    """Remove the directory `place` when it is empty."""
    with contextlib.suppress(OSError):
        place.rmdir()
