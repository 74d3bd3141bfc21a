"""Addresses without struct pages become pages of a task: remap_pfn_range, VM_IO and VM_PFNMAP (PT-3)."""

import errno

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.backing.filemap import set_ptes
from labkit.kernel.mm.backing.memremap import unmap_mapping_range
from labkit.kernel.mm.backing.provider import Provider
from labkit.kernel.mm.fault.mmap import do_mmap
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import PAGE_ACCESSED, PAGE_SPECIAL
from labkit.kernel.mm.space.vma import VM_IO, VM_PFNMAP, VM_SHARED, VMA
from labkit.scatter.payload import Ranges, cut
from labkit.units import PAGE_SHIFT, PAGE_SIZE, UserAddr


class PfnMapping:
    """Memory that a driver maps by frame number: a BAR, RAM that the kernel does not know, a page of its own.

    Without a `provider` nobody answers for it, and no IO may go there (MISS-4); with one, phyrs may till it is revoked.
    """

    flags = VM_SHARED | VM_IO | VM_PFNMAP

    def __init__(self, frames: Frames, kind: str, runs: Ranges, provider: Provider | None = None) -> None:
        """Offer `runs` (physical, whole pages), in the order of the mapping. Raises BadInput EINVAL for half pages."""
        if not runs or any(addr % PAGE_SIZE or nbytes % PAGE_SIZE or nbytes <= 0 for addr, nbytes in runs):
            raise BadInput("remap_pfn", kind, "is not whole pages", errno.EINVAL)
        self.frames, self.kind, self.runs, self.provider = frames, kind, runs, provider
        self.nbytes = sum(nbytes for _, nbytes in runs)
        self.revoked = False
        self.writable = kind != "vvar"
        """Whether a task may ever write there: the kernel's own clock page it may not (VM_MAYWRITE)."""
        self.i_mmap: dict[int, Mm] = {}

    def mmap(self, mm: Mm, nbytes: int, prot: str = "rw-") -> UserAddr:
        """Map the first `nbytes`, all of it at once. Raises SyscallError EINVAL for more than there is; as do_mmap."""
        if nbytes > self.nbytes:
            raise SyscallError(
                "mmap", f"length={nbytes}", f"is more than the {self.nbytes} of {self.kind}", errno.EINVAL
            )
        return do_mmap(mm, nbytes, prot, self.kind, ops=self)

    def fault(self, mm: Mm, vma: VMA, first: int, last: int, *, write: bool) -> int:  # noqa: ARG002 - read or write
        """Set special entries for [first, last). Raises SyscallError EFAULT (SIGBUS) once the owner has revoked it."""
        if self.revoked:
            addr = vma.start + first * PAGE_SIZE
            raise SyscallError("mm", f"addr={addr:#x}", f"lies in {self.kind}, which is revoked (SIGBUS)", errno.EFAULT)
        self.i_mmap[mm.task] = mm
        runs = cut(self.runs, (vma.pgoff + first) << PAGE_SHIFT, (last - first) << PAGE_SHIFT)
        set_ptes(mm, vma, first, runs, vma.pte_flags | PAGE_SPECIAL | PAGE_ACCESSED)
        return 0

    def revoke(self) -> tuple[int, ...]:
        """Unmap it everywhere and let no IO begin (D-13); return the tokens of pins that the owner must wait for.

        Raises SyscallError EOPNOTSUPP, and changes nothing, for a provider that promised to stay.
        """
        held = self.provider.revoke(self.frames.ledger) if self.provider else ()
        self.revoked = True
        unmap_mapping_range(self, self.i_mmap)
        return held
