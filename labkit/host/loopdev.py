"""A sparse file becomes a block device: attached, read and written with O_DIRECT, and gone at every exit."""

import atexit
import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labkit.errors import BadInput, LabkitError, NotAllowed, SyscallError
from labkit.host import leftovers, loop_ioctl, signals
from labkit.host.leftovers import sweep
from labkit.host.wait import wait_until
from labkit.units import PAGE_SIZE, SECTOR_SIZE

__all__ = ["LoopDevice", "sweep"]

IOV_MAX = 1024
_CONTROL = "/dev/loop-control"
_INSTEAD = "or use --device nvme"
_NODE_SECONDS = 2.0
_DETACH_SECONDS = 5.0
_TRIES = 64
_live: list["LoopDevice"] = []


class LoopDevice:
    """A loop device of one's own over a sparse file: `path`, `nbytes`, `backing`, and `limits` by their sysfs names.

    The kernel detaches it at the last close (LO_FLAGS_AUTOCLEAR), so that even SIGKILL leaves no device; the file
    that SIGKILL leaves is removed by the next `sweep`. The limits are those at the time of attach.
    """

    def __init__(self, nbytes: int, logical_block_size: int) -> None:
        """Hold nothing yet: `attach` is the way to a device."""
        self.path = ""
        self.nbytes = nbytes
        self.limits: dict[str, int] = {}
        self.backing = Path()
        self._block_size = logical_block_size
        self._number = self._loop = self._file = -1
        self._ring: Any = None
        """A host.ring.Ring, once several transfers were asked for together."""
        self._pid = os.getpid()

    @classmethod
    def attach(cls, nbytes: int, *, logical_block_size: int = 512, directory: Path | None = None) -> Self:
        """Return a device of `nbytes` zeros, whose file lies below `directory` (the temporary directory if None).

        First sweeps. Raises BadInput for a size that is no positive multiple of `logical_block_size`, NotAllowed
        when this user or machine has no loop devices, SyscallError for any other refusal; nothing is left then.
        """
        _check_sizes(nbytes, logical_block_size)
        device = cls(nbytes, logical_block_size)
        try:
            with signals.held(), _speaking("attach", f"is not allowed: run as root, {_INSTEAD}"):
                device._attach(directory)
        except BaseException:
            device.detach()
            raise
        return device

    def _attach(self, directory: Path | None) -> None:
        """Take every step of `attach`; what is taken stands in the fields, for `detach` to give back."""
        _live.append(self)
        signals.catch()
        sweep(directory)
        with _speaking(_CONTROL, f"needs root: run as root, {_INSTEAD}"):
            control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            with _speaking(str(directory or "TMPDIR"), "cannot be written: set TMPDIR to a directory of this user"):
                self.backing, self._file = leftovers.create(leftovers.home(directory))
                os.ftruncate(self._file, self.nbytes)
            with _speaking("LOOP_CONFIGURE", f"needs CAP_SYS_ADMIN and loop devices: run as root, {_INSTEAD}"):
                self._configure(control)
                self.limits = loop_ioctl.limits(self._number)
        finally:
            os.close(control)

    def _configure(self, control: int) -> None:
        """Attach the file to a free device, and take another number when somebody else was faster (EBUSY).

        The driver gets a description of the file of its own: the flock would otherwise outlive its owner for as
        long as the device does. Raises OSError.
        """
        backing = os.open(self.backing, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for _ in range(_TRIES):
                if self._configure_once(loop_ioctl.get_free(control), backing):
                    return
        finally:
            os.close(backing)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _configure_once(self, number: int, backing: int) -> bool:
        """Open /dev/loop`number` and attach the fd `backing`; return False when somebody else has the device."""
        self._number, self.path = number, f"/dev/loop{number}"
        if not wait_until(Path(self.path).exists, _NODE_SECONDS):
            rule = f"does not appear: mount devtmpfs on /dev, {_INSTEAD}"
            raise NotAllowed("loop", self.path, rule, errno.ENOENT)
        try:
            self._loop = os.open(self.path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
            loop_ioctl.configure(self._loop, backing, self._block_size, str(self.backing))
        except OSError as error:
            self._close_loop()
            if error.errno not in {errno.EBUSY, errno.ENXIO}:
                raise
            return False
        return True

    def detach(self) -> None:
        """Give the device and its file back; a second call does nothing, and a forked child only closes its fds.

        Raises SyscallError EBUSY when another process keeps the device open: the kernel detaches it when that
        process closes it, and the file is gone in any case.
        """
        if self._loop < 0 and self._file < 0:
            _forget(self)
            return
        with signals.held():
            mine = self._pid == os.getpid()
            if mine and self._is_attached():
                with contextlib.suppress(OSError):  # AUTOCLEAR does the same at the close
                    loop_ioctl.clr_fd(self._loop)
            self._close_loop()
            gone = not mine or wait_until(lambda: not self._is_attached(), _DETACH_SECONDS)
            self._close_file(mine)
            _forget(self)
        if not gone:
            raise SyscallError("loop", self.path, "is kept open by another process", errno.EBUSY)

    def _is_attached(self) -> bool:
        """Return whether sysfs shows the file of this device, linked or not, behind its number."""
        return self._number >= 0 and leftovers.marked(loop_ioctl.backing_file(self._number)) == self.backing

    def _close_loop(self) -> None:
        """Close the device once, and the ring that was for it."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()
        loop, self._loop = self._loop, -1
        if loop >= 0:
            os.close(loop)

    def _close_file(self, mine: bool) -> None:
        """Unlink the backing file if it is `mine`, and close it, which drops the flock, once."""
        if self._file < 0:
            return
        if mine:
            with contextlib.suppress(OSError):  # what cannot be unlinked now is left to the next sweep
                leftovers.remove(self.backing)
        fd, self._file = self._file, -1
        os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.detach()

    def preadv(self, views: Sequence[memoryview], pos: int) -> int:
        """Read from byte `pos` into `views` by one preadv with O_DIRECT; return the bytes read, 0 at the end.

        A short count is returned as it is. Raises SyscallError, EINVAL for more than 1024 views (IOV_MAX).
        """
        try:
            return os.preadv(self._loop, views, pos)
        except OSError as error:
            raise self._refusal("preadv", views, pos, error) from error

    def pwritev(self, views: Sequence[memoryview], pos: int) -> int:
        """Write `views` to byte `pos` by one pwritev with O_DIRECT; return the bytes written.

        A short count is returned as it is. Raises SyscallError, EINVAL for more than 1024 views (IOV_MAX).
        """
        try:
            return os.pwritev(self._loop, views, pos)
        except OSError as error:
            raise self._refusal("pwritev", views, pos, error) from error

    def batch(self, transfers: Sequence[tuple[Sequence[memoryview], int, bool]]) -> list[int]:
        """Do (views, byte, whether it writes) side by side, by io_uring; return the bytes of each, or a negative errno.

        Errors: those of Ring.
        """
        from labkit.host.ring import Ring, Transfer  # noqa: PLC0415 - numpy brings threads, and those take signals

        self._ring = self._ring or Ring()
        moved: list[int] = self._ring.run(self._loop, [Transfer(*each) for each in transfers])
        return moved

    def fileno(self) -> int:
        """Return the descriptor of the device, open with O_DIRECT, which stays this object's; -1 without one."""
        return self._loop

    def flush(self) -> None:
        """Bring what was written to the medium: one fdatasync of the device. Raises SyscallError."""
        with _speaking(f"fdatasync of {self.path}", "is not allowed"):
            os.fdatasync(self._loop)

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return `nbytes` from byte `pos` of the backing file: what is really there, not seen through the device.

        The device reads and writes the file by direct IO, beside the page cache of the file. So the cache is written
        back and dropped first, and the bytes come from the file's disk. Raises BadInput beyond the end, SyscallError.
        """
        self._check_range("peek", pos, nbytes)
        with _speaking(f"peek at {pos}", "is not allowed"):
            self._drop_cache()
            return b"".join(_pread(self._file, pos, nbytes))

    def poke(self, pos: int, data: bytes) -> None:
        """Write `data` to byte `pos` of the backing file, beside the device.

        A direct read through the device goes to the file's disk, so the bytes are brought there, and the cache is
        dropped: a later direct write leaves no stale page behind. Raises BadInput beyond the end, SyscallError.
        """
        self._check_range("poke", pos, len(data))
        rest = memoryview(data)
        with _speaking(f"poke at {pos}", "is not allowed"):
            while rest:
                written = os.pwrite(self._file, rest, pos)
                rest, pos = rest[written:], pos + written
            self._drop_cache()

    def _drop_cache(self) -> None:
        """Write back and drop the page cache of the whole file: a range would spare the pages that it cuts."""
        os.fdatasync(self._file)
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)

    def _check_range(self, call: str, pos: int, nbytes: int) -> None:
        """Raise BadInput unless `nbytes` from byte `pos` lie on the device, SyscallError EBADF when it is detached."""
        if self._file < 0:
            raise SyscallError("loop", f"{call} of {self.path}", "needs it attached", errno.EBADF)
        if pos < 0 or nbytes < 0 or pos + nbytes > self.nbytes:
            raise BadInput("loop", f"{call} of {nbytes} B at {pos}", f"leaves the {self.nbytes} B of it", errno.EINVAL)

    def _refusal(self, call: str, views: Sequence[memoryview], pos: int, error: OSError) -> SyscallError:
        """Return the error of `call` as a sentence: what was asked, and the rule that it breaks."""
        number = error.errno or errno.EIO
        rule = f"fails: {os.strerror(number)}"
        if len(views) > IOV_MAX:
            rule = f"has more than {IOV_MAX} iovecs (IOV_MAX)"
        elif number == errno.EINVAL:
            rule = f"wants position, length and addresses in multiples of {self._block_size} (O_DIRECT)"
        what = f"{len(views)} iovecs of {sum(view.nbytes for view in views)} B at {pos} of {self.path}"
        return SyscallError(call, what, rule, number)


def _pread(fd: int, pos: int, nbytes: int) -> Iterator[bytes]:
    """Yield `nbytes` of the file from byte `pos`, in as many reads as the kernel wants."""
    while nbytes and (piece := os.pread(fd, nbytes, pos)):
        yield piece
        pos, nbytes = pos + len(piece), nbytes - len(piece)


def _check_sizes(nbytes: int, block_size: int) -> None:
    """Raise BadInput unless the block size is a power of two of 512 to 4096 bytes, and divides `nbytes`."""
    if not SECTOR_SIZE <= block_size <= PAGE_SIZE or block_size & (block_size - 1):
        rule = f"is no power of two from {SECTOR_SIZE} to {PAGE_SIZE}"
        raise BadInput("loop", f"logical_block_size={block_size}", rule, errno.EINVAL)
    if nbytes <= 0 or nbytes % block_size:
        rule = f"is no positive multiple of the logical block, {block_size}"
        raise BadInput("loop", f"nbytes={nbytes}", rule, errno.EINVAL)


@contextlib.contextmanager
def _speaking(what: str, remedy: str) -> Iterator[None]:
    """Turn an OSError into a sentence about `what`: NotAllowed with the `remedy`, or SyscallError."""
    try:
        yield
    except LabkitError:
        raise
    except OSError as error:
        number = error.errno or errno.EIO
        if number in {errno.EPERM, errno.EACCES}:
            raise NotAllowed("loop", what, remedy, number) from error
        if what == _CONTROL:
            raise NotAllowed(
                "loop", what, f"is not there: load the module (modprobe loop), {_INSTEAD}", number
            ) from error
        raise SyscallError("loop", what, f"fails: {os.strerror(number)}", number) from error


def _forget(device: LoopDevice) -> None:
    """Take `device` off the list of those to detach at exit; the last one gives the signals back."""
    if device in _live:
        _live.remove(device)
        if not _live:
            signals.restore()


@atexit.register
def _detach_all() -> None:
    """Detach at the exit of the interpreter whatever is attached still."""
    for device in tuple(_live):
        with contextlib.suppress(LabkitError):
            device.detach()
