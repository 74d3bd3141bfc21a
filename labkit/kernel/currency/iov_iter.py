"""User memory that the CPU itself copies to and from: lib/iov_iter.c, for buffered IO and for the zeros of a hole."""

import errno
from collections.abc import Iterator, Sequence

from labkit.errors import SyscallError
from labkit.kernel.mm.fault.memory import FaultRetry, handle_mm_fault
from labkit.kernel.mm.gup.follow import table_runs
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.scatter.payload import Range, Ranges, cut
from labkit.units import PAGE_SHIFT, PAGE_SIZE


class IovIter:
    """The pieces of user memory of one call, and how far it has come (struct iov_iter)."""

    def __init__(self, mm: Mm, pieces: Sequence[Range]) -> None:
        """Begin at the first byte of `pieces` (user address, bytes)."""
        self.mm, self.pieces, self.done = mm, tuple(pieces), 0
        self.late: FaultRetry | None = None
        """Why the last copy ended early, where that can be waited for."""
        self.total = sum(nbytes for _, nbytes in self.pieces)

    def copy_to_iter(self, ranges: Ranges) -> int:
        """Copy the bytes at physical `ranges` to the user; return how many could be, less where a fault ends it."""
        return self._copy(ranges, to_user=True)

    def copy_from_iter(self, ranges: Ranges) -> int:
        """Copy the user's next bytes to physical `ranges`; return how many could be."""
        return self._copy(ranges, to_user=False)

    def zero(self, nbytes: int) -> int:
        """Write zeros over the user's next `nbytes`; return how many could be (iov_iter_zero).

        Raises FaultRetry where not one could be now.
        """
        done, self.late = 0, None
        for addr, size in self._user(nbytes, write=True):
            self.mm.frames.wipe(addr, size)
            done += size
        if self.late is not None and not done:
            raise self.late
        return done

    def fault_in(self, nbytes: int, *, write: bool) -> int:
        """Bring the user's next `nbytes` in, copy nothing; return how many are there (fault_in_iov_iter_readable)."""
        before = self.done
        came = sum(size for _, size in self._user(nbytes, write=write))
        self.done = before
        return came

    def _copy(self, ranges: Ranges, *, to_user: bool) -> int:
        done, copy = 0, self.mm.frames.copy
        for addr, size in self._user(sum(n for _, n in ranges), write=to_user):
            at = addr
            for kernel, n in cut(ranges, done, size):
                if to_user:
                    copy(at, kernel, n)
                else:
                    copy(kernel, at, n)
                at += n
            done += size
        return done

    def _user(self, nbytes: int, *, write: bool) -> Iterator[Range]:
        """Yield (physical address, bytes) of the user's next `nbytes`, faulted in; end where a fault does."""
        for addr, length in list(cut(self.pieces, self.done, nbytes)):
            at, end = addr, addr + length
            while at < end:
                try:
                    runs, stop = self._stretch(at, end, write=write)
                except FaultRetry as late:
                    self.late = late
                    return
                except SyscallError:
                    return
                for run in runs:
                    self.done += run[1]
                    yield run
                at = stop

    def _stretch(self, at: int, end: int, *, write: bool) -> tuple[Ranges, int]:
        """Fault in what one mapping has of [at, end), page by page where all at once fails. Errors: a fault's."""
        mm, vma = self.mm, self.mm.space.find_vma(at)
        if vma is None or ("w" if write else "r") not in vma.prot:
            raise SyscallError("mm", f"addr={at:#x}", "is not there to be copied to or from", errno.EFAULT)
        stop = min(end, vma.end)
        first, last = vma.page(at), vma.page(stop - 1) + 1
        try:
            handle_mm_fault(mm, vma, first, last, write=write)
        except SyscallError:
            handle_mm_fault(mm, vma, first, first + 1, write=write)
            last = first + 1
            stop = min(stop, vma.start + (last << PAGE_SHIFT))
        runs = table_runs(vma.table, first, last)
        return cut(runs, at % PAGE_SIZE, stop - at), stop
