"""A loop device of labkit's own becomes a disk for real IO: raw, or with a filesystem and one file on it."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from labkit.errors import BadInput, SyscallError
from labkit.host.calls import loop_ioctl, mounts
from labkit.host.calls.mounts import Mount
from labkit.host.disk import fiemap, filesystem
from labkit.host.disk.loop_errors import speaking
from labkit.host.disk.loopdev import LoopDevice
from labkit.host.refusal import refused
from labkit.host.undo import Undo, exits

_MORE = ("nomerges", "scheduler", "io_poll", "rotational", "wbt_lat_usec", "stable_writes")
"""What a capture tells beside the limits of the queue."""
_KNOBS = ("scheduler", "max_sectors_kb", "nomerges")
_FULL_BYTES = 1 << 20
"""A disk with less than that free is full."""
_FILE_PART = 4
"""A file has this part of its device, unless it is told."""


class RealDisk:
    """A disk of `nbytes`: `name` (loop0), `kdev` (as trace filters want it), `fs`, `limits()`.

    `fd` is open with O_DIRECT: of the device, or of the file on it, which has `file_bytes`. A context manager: file,
    mount, settings and device go at its end, in this order. It serves one thread.
    """

    def __init__(self, undo: Undo, device: LoopDevice, fs: str) -> None:
        """Hold `device`: `make` is the way to a disk."""
        self._undo, self._device = undo, device
        self._mount: Mount | None = None
        self.fs, self.nbytes, self.file_bytes = fs, device.nbytes, device.nbytes
        self.name = f"loop{device.number}"
        self.logical_block_size = device.block_size
        self.fd = device.fileno()
        rdev = os.fstat(self.fd).st_rdev
        self.kdev = os.major(rdev) << 20 | os.minor(rdev)
        self._queue = loop_ioctl.SYS_BLOCK / self.name / "queue"

    @classmethod
    def make(
        cls, undo: Undo, nbytes: int, *, logical_block_size: int = 512, fs: str = "raw", directory: Path | None = None,
        seed: int = 0, file_bytes: int = 0, fragments: bool = True,
    ) -> Self:  # fmt: skip
        """Return a disk of `nbytes`, all of them written, or with `fs` (raw, ext4, xfs) and one file of `file_bytes`.

        Its backing file lies below `directory` (the temporary directory if None). With `fragments` the file lies in
        pieces, some of them holes, some unwritten, by `seed`. Raises BadInput, NotAllowed without root, mkfs or room,
        SyscallError; nothing is left then.
        """
        if fs != "raw" and fs not in filesystem.MKFS:
            raise BadInput("disk", f"fs={fs}", f"is none of raw, {', '.join(filesystem.MKFS)}", errno.EINVAL)
        undo.note_place(directory)
        device = LoopDevice.attach(nbytes, logical_block_size=logical_block_size, directory=directory)
        disk = None
        try:
            disk = cls(undo, device, fs)
            exits.hold(disk)
            if fs == "raw":
                device.fill(seed)
            else:
                with _roomy(device.backing.parent):
                    disk._make_file(file_bytes or nbytes // _FILE_PART, seed, fragments=fragments)
        except BaseException:
            (disk or device).close()
            raise
        return disk

    def _make_file(self, file_bytes: int, seed: int, *, fragments: bool) -> None:
        """Make the filesystem and the file, and let `fd` be of the file. Raises NotAllowed, SyscallError."""
        self.fd = -1
        filesystem.mkfs(self.fs, self._device.path, self._device.fileno())
        self._device.only_read()
        mount = self._mount = mounts.mount(self.fs, self._device.path)
        with speaking(f"a file of {file_bytes} B on {self.fs} of {self.nbytes} B", "is not allowed"):
            self.fd = filesystem.make_file(mount.path, file_bytes, seed, fragments=fragments)
        self.file_bytes = file_bytes

    @property
    def backing_dio(self) -> int:
        """1 when the loop driver reads and writes the backing file by direct IO, 0 when through the page cache."""
        return self._device.limits["dio"]

    def limits(self) -> dict[str, int | str]:
        """Return what sysfs says of the queue now, by name: numbers, and the whole text of the scheduler."""
        found: dict[str, int | str] = {}
        for name in (*loop_ioctl.QUEUE_LIMITS, *_MORE):
            with contextlib.suppress(OSError):  # what this kernel does not have, or has switched off
                text = (self._queue / name).read_text("ascii").strip()
                found[name] = int(text) if text.isdecimal() else text
        return found

    def put(self, name: str, value: int | str) -> None:
        """Let the queue's `name` (scheduler, max_sectors_kb, nomerges) say `value`, until the disk is closed.

        They outlive the device, which is why they go through Undo. Raises BadInput, NotAllowed, SyscallError.
        """
        if name not in _KNOBS:
            raise BadInput("disk", f"queue/{name}", f"is none of {', '.join(_KNOBS)}", errno.EINVAL)
        self._undo.put(self._queue / name, str(value))

    def extents(self) -> list[fiemap.Extent]:
        """Return where the file lies: (byte of it, byte of the device, bytes, flag words); [] for a raw disk."""
        return [] if self.fs == "raw" else fiemap.extents(self.fd)

    def close(self) -> None:
        """Give back file, mount, settings and device; a second call does nothing.

        Whatever fails, the rest is done; then the first error is raised: NotAllowed EBUSY of a device in use.
        """
        with contextlib.ExitStack() as last_first:
            last_first.callback(exits.release, self)
            last_first.callback(self._device.detach)
            last_first.callback(self._undo.back, self._queue)
            if self._mount is not None:
                last_first.callback(self._mount.close)
            last_first.callback(self._close_file)

    def _close_file(self) -> None:
        """Close the file, once; that of a raw disk is the device's."""
        fd, self.fd = self.fd, -1
        if fd >= 0 and self.fs != "raw":
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@contextlib.contextmanager
def _roomy(directory: Path) -> Iterator[None]:
    """Raise NotAllowed ENOSPC for what fails within it where the disk of `directory` is full by then.

    A filesystem on a device whose file cannot grow sees errors of its device alone.
    """
    try:
        yield
    except SyscallError as bad:
        room = os.statvfs(directory)
        if room.f_bavail * room.f_frsize >= _FULL_BYTES:
            raise
        raise refused("disk", str(directory), OSError(errno.ENOSPC, bad.rule)) from bad
