"""The mark by which labkit knows its own backing files, and the removal of what a killed run left.

The mark is the path `labkit-<uid>/labkit-loop-<pid>-<random>.img`; a living owner holds an flock on the file.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from labkit.host.calls import loop_ioctl
from labkit.host.undo import private
from labkit.host.undo.private import home
from labkit.host.wait import wait_until

_NAME = re.compile(r"labkit-loop-\d+-[0-9a-f]{16}\.img")
_DELETED = " (deleted)"
_CLEAR_SECONDS = 2.0


def create(place: Path) -> tuple[Path, int]:
    """Make an empty marked file in the directory `place`; return its path and an fd that holds the flock.

    Raises OSError, and NotAllowed when `place` belongs to somebody else.
    """
    return private.create(place, "labkit-loop", ".img")


def sweep(directories: Iterable[Path] = ()) -> list[str]:
    """Remove the devices and files that killed runs of this user left, and return one line for each.

    Marked loop devices without a living owner are detached, marked files without one are unlinked: those in the
    temporary directory, below `directories`, and behind marked devices. Anything else is not touched. Raises nothing:
    what cannot be removed is left.
    """
    removed, places = list[str](), {home(directory) for directory in directories}
    with contextlib.suppress(OSError):
        devices = tuple(_marked_devices())
        for number, backing in devices:
            if _clear_dead(number, backing):
                removed.append(f"/dev/loop{number} (detached from {backing})")
        places |= {home(None), *(backing.parent for _, backing in devices)}
    for place in sorted(places):
        removed += private.sweep(place, _NAME, lambda: {backing for _, backing in _marked_devices()})
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
        with private.opened(f"/dev/loop{number}") as loop:
            if marked(loop_ioctl.backing_file(number)) != backing or _owner_lives(loop, backing):
                return False
            loop_ioctl.clr_fd(loop)
    except OSError:  # ENXIO: its owner is detaching it just now
        return False
    return wait_until(lambda: marked(loop_ioctl.backing_file(number)) != backing, _CLEAR_SECONDS)


def _owner_lives(loop: int, backing: Path) -> bool:
    """Return whether a process holds the flock on the file behind `loop` (an fd), even when the file is unlinked."""
    try:
        with private.opened(str(backing)) as file:
            return private.is_held(file)
    except FileNotFoundError:
        inode = re.compile(rf"FLOCK .*:{loop_ioctl.lo_inode(loop)} ")
        return bool(inode.search(Path("/proc/locks").read_text()))
