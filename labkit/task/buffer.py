"""A buffer of a task as it is now: its mapping, and the frames that are present in it."""

import errno
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.trace.translations import Translations
from labkit.units import UserAddr, human_bytes


class Buffer(NamedTuple):
    """`nbytes` bytes from user address `address`; `runs` are (user address, physical address, bytes) of what is there.

    A value: a fault, a migration or an munmap that comes later changes none.
    """

    address: UserAddr
    nbytes: int
    prot: str
    name: str
    runs: tuple[tuple[int, int, int], ...]

    def __repr__(self) -> str:
        """Return where it is, and of how many ranges."""
        ranges = f"{len(self.runs)} physical range{'s' * (len(self.runs) != 1)}"
        return f"Buffer({self.address:#x}, {human_bytes(self.nbytes)}, {self.name}, {ranges})"


def buffer_of(mm: Mm, addr: int) -> Buffer:
    """Return the mapping of `mm` that holds user address `addr`. Raises SyscallError EFAULT where none does."""
    vma = mm.space.find_vma(addr)
    if vma is None:
        raise SyscallError("mm", f"addr={addr:#x}", "is not mapped", errno.EFAULT)
    here = Translations()
    for run in mm.translations():
        if vma.start <= run.va < vma.end:
            here.put(run)
    runs = tuple((va, pa, nbytes) for va, pa, nbytes, _ in here.joined(mm.task))
    return Buffer(UserAddr(vma.start), vma.end - vma.start, vma.prot, vma.name, runs)
