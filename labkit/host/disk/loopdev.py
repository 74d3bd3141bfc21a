"""A sparse file becomes a block device: attached, read and written with O_DIRECT, and gone at every exit."""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labkit.errors import BadInput, NotAllowed, SyscallError
from labkit.host import signals
from labkit.host.calls import loop_ioctl
from labkit.host.disk.backing import Backing
from labkit.host.disk.loop_errors import CONTROL, INSTEAD, check_sizes, failed, speaking
from labkit.host.undo import exits, leftovers, sweep
from labkit.host.wait import wait_until

__all__ = ["LoopDevice", "sweep"]

_NODE_SECONDS = 2.0
_DETACH_SECONDS = 5.0
_TRIES = 64


class LoopDevice:
    """A loop device of one's own over a sparse file: `path`, `number`, `nbytes`, `block_size`, `backing` and `limits`.

    The kernel detaches it at the last close (LO_FLAGS_AUTOCLEAR), so that even SIGKILL leaves no device; the file
    that SIGKILL leaves is removed by the next `sweep`. The limits, by sysfs name, are those at the time of attach.
    """

    def __init__(self, nbytes: int, logical_block_size: int) -> None:
        """Hold nothing yet: `attach` is the way to a device."""
        self.path = ""
        self.nbytes = nbytes
        self.limits: dict[str, int] = {}
        self.block_size = logical_block_size
        self.number = self._loop = -1
        self.backing = Path()
        self._file: Backing | None = None
        self._ring: Any = None
        """A host.ring.Ring, once several transfers were asked for together."""
        self._pid = os.getpid()

    @classmethod
    def attach(cls, nbytes: int, *, logical_block_size: int = 512, directory: Path | None = None) -> Self:
        """Return a device of `nbytes` zeros, whose file lies below `directory` (the temporary directory if None).

        First sweeps. Raises BadInput for a size that is no positive multiple of `logical_block_size`, NotAllowed
        when this user or machine has no loop devices, SyscallError for any other refusal; nothing is left then.
        """
        check_sizes(nbytes, logical_block_size)
        device = cls(nbytes, logical_block_size)
        try:
            with signals.held(), speaking("attach", f"is not allowed: run as root, {INSTEAD}"):
                device._attach(directory)
        except BaseException:
            device.detach()
            raise
        return device

    def _attach(self, directory: Path | None) -> None:
        """Take every step of `attach`; what is taken stands in the fields, for `detach` to give back."""
        exits.hold(self)
        sweep(directory)
        with speaking(CONTROL, f"needs root: run as root, {INSTEAD}"):
            control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            with speaking(str(directory or "TMPDIR"), "cannot be written: set TMPDIR to a directory of this user"):
                self._file = Backing(directory, self.nbytes)
                self.backing = self._file.path
            with speaking("LOOP_CONFIGURE", f"needs CAP_SYS_ADMIN and loop devices: run as root, {INSTEAD}"):
                self._configure(control)
                self.limits = loop_ioctl.limits(self.number)
        finally:
            os.close(control)

    def _configure(self, control: int) -> None:
        """Attach the file to a free device, and take another number when somebody else was faster (EBUSY).

        The driver gets a description of the file of its own: the flock would otherwise outlive its owner for as
        long as the device does. Raises OSError.
        """
        backing = self._held("attach").open_again()
        try:
            for _ in range(_TRIES):
                if self._configure_once(loop_ioctl.get_free(control), backing):
                    return
        finally:
            os.close(backing)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _configure_once(self, number: int, backing: int) -> bool:
        """Open /dev/loop`number` and attach the fd `backing`; return False when somebody else has the device."""
        self.number, self.path = number, f"/dev/loop{number}"
        if not wait_until(Path(self.path).exists, _NODE_SECONDS):
            rule = f"does not appear: mount devtmpfs on /dev, {INSTEAD}"
            raise NotAllowed("loop", self.path, rule, errno.ENOENT)
        try:
            self._loop = os.open(self.path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
            loop_ioctl.configure(self._loop, backing, self.block_size, str(self.backing))
        except OSError as error:
            self._close_loop()
            if error.errno not in {errno.EBUSY, errno.ENXIO}:
                raise
            return False
        return True

    def detach(self) -> None:
        """Give the device and its file back; a second call does nothing, and a forked child only closes its fds.

        Raises NotAllowed EBUSY when another process keeps the device open: the kernel detaches it when that
        process closes it, and the file is gone in any case.
        """
        if self._loop < 0 and self._file is None:
            exits.release(self)
            return
        with signals.held():
            mine = self._pid == os.getpid()
            if mine and self._is_attached():
                with contextlib.suppress(OSError):  # AUTOCLEAR does the same at the close
                    loop_ioctl.clr_fd(self._loop)
            self._close_loop()
            gone = not mine or wait_until(lambda: not self._is_attached(), _DETACH_SECONDS)
            self._close_file(mine=mine)
            exits.release(self)
        if not gone:
            raise NotAllowed("loop", self.path, "is kept open by another process: end that one", errno.EBUSY)

    def close(self) -> None:
        """Detach it, as `detach` does."""
        self.detach()

    def _is_attached(self) -> bool:
        """Return whether sysfs shows the file of this device, linked or not, behind its number."""
        return self.number >= 0 and leftovers.marked(loop_ioctl.backing_file(self.number)) == self.backing

    def _close_loop(self) -> None:
        """Close the device once, and the ring that was for it."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()
        loop, self._loop = self._loop, -1
        if loop >= 0:
            os.close(loop)

    def _close_file(self, *, mine: bool) -> None:
        """Close the file, and unlink it if it is `mine`, once."""
        file, self._file = self._file, None
        if file is not None:
            file.close(mine=mine)

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
            raise failed("preadv", views, pos, (self.path, self.block_size), error) from error

    def pwritev(self, views: Sequence[memoryview], pos: int) -> int:
        """Write `views` to byte `pos` by one pwritev with O_DIRECT; return the bytes written.

        A short count is returned as it is. Raises SyscallError, EINVAL for more than 1024 views (IOV_MAX).
        """
        try:
            return os.pwritev(self._loop, views, pos)
        except OSError as error:
            raise failed("pwritev", views, pos, (self.path, self.block_size), error) from error

    def batch(self, transfers: Sequence[tuple[Sequence[memoryview], int, bool]]) -> list[int]:
        """Do (views, byte, whether it writes) side by side, by io_uring; return the bytes of each, or a negative errno.

        Errors: those of Ring.
        """
        from labkit.host.calls.ring import Ring, Transfer  # noqa: PLC0415 - numpy brings threads, and those take signals

        self._ring = self._ring or Ring()
        moved: list[int] = self._ring.run(self._loop, [Transfer(*each) for each in transfers])
        return moved

    def fileno(self) -> int:
        """Return the descriptor of the device, open with O_DIRECT, which stays this object's; -1 without one."""
        return self._loop

    def flush(self) -> None:
        """Bring what was written to the medium: one fdatasync of the device. Raises SyscallError."""
        with speaking(f"fdatasync of {self.path}", "is not allowed"):
            os.fdatasync(self._loop)

    def only_read(self) -> None:
        """Keep the device open for reading alone. Raises SyscallError.

        Kernels with CONFIG_BLK_DEV_WRITE_MOUNTED=n mount no device that is open for writing.
        """
        with signals.held(), speaking(f"open of {self.path}", "is not allowed"):
            loop, self._loop = self._loop, os.open(self.path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
            os.close(loop)

    def fill(self, seed: int) -> None:
        """Let every block lie on the medium, with bytes by `seed`: what was never written is read from nowhere.

        Raises NotAllowed where the disk is full, SyscallError.
        """
        with speaking(f"{self.nbytes} B in {self.backing.parent}", "are not allowed"):
            self._held("fill").fill(seed)

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return `nbytes` from byte `pos` of the backing file: what is really there, not seen through the device.

        Raises BadInput beyond the end, SyscallError.
        """
        file = self._checked("peek", pos, nbytes)
        with speaking(f"peek at {pos}", "is not allowed"):
            return file.read(pos, nbytes)

    def poke(self, pos: int, data: bytes) -> None:
        """Write `data` to byte `pos` of the backing file, beside the device: a later read through it sees them.

        Raises BadInput beyond the end, SyscallError.
        """
        file = self._checked("poke", pos, len(data))
        with speaking(f"poke at {pos}", "is not allowed"):
            file.write(pos, data)

    def _checked(self, call: str, pos: int, nbytes: int) -> Backing:
        """Return the file. Raises BadInput unless `nbytes` from byte `pos` lie on the device; and as `_held` does."""
        file = self._held(call)
        if pos < 0 or nbytes < 0 or pos + nbytes > self.nbytes:
            raise BadInput("loop", f"{call} of {nbytes} B at {pos}", f"leaves the {self.nbytes} B of it", errno.EINVAL)
        return file

    def _held(self, call: str) -> Backing:
        """Return the file. Raises SyscallError EBADF when the device is detached."""
        if self._file is None:
            raise SyscallError("loop", f"{call} of {self.path}", "needs it attached", errno.EBADF)
        return self._file
