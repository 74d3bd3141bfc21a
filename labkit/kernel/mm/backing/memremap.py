"""Memory of devices gets struct pages: ZONE_DEVICE, kind by kind (mm/memremap.c, MM-27)."""

import errno

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.backing.filemap import set_ptes
from labkit.kernel.mm.backing.provider import Provider
from labkit.kernel.mm.fault.anon import populate
from labkit.kernel.mm.fault.mmap import do_mmap
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import PAGE_ACCESSED
from labkit.kernel.mm.space.vma import VM_MIXEDMAP, VM_SHARED, VMA
from labkit.trace.page_flags import PG_uptodate
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PhysAddr, UserAddr

MEMORY_DEVICE = {"device-private": 1, "device-coherent": 2, "fsdax": 3, "devdax": 4, "foreign": 4, "p2pdma": 5}
"""enum memory_type by the kind of mapping: PRIVATE, COHERENT, FS_DAX, GENERIC (Xen's scratch pages too), PCI_P2PDMA."""
_REFS = 1


class DevPagemap:
    """Physical memory from `start` on with a struct page for each frame (struct dev_pagemap), mapped page by page."""

    def __init__(
        self, frames: Frames, kind: str, start: PhysAddr, nbytes: int, *, name: str = "",
        provider: Provider | None = None,
    ) -> None:  # fmt: skip
        """Make the pages (memremap_pages). `provider` is who answers for IO to them, where that is not plain RAM.

        Raises BadInput EINVAL for a kind that is none of MEMORY_DEVICE, and for a size that is not whole pages; EBUSY
        for memory that has struct pages already.
        """
        if kind not in MEMORY_DEVICE or nbytes <= 0 or nbytes % PAGE_SIZE:
            rule = f"is not whole pages of {', '.join(MEMORY_DEVICE)}"
            raise BadInput("memremap", f"{nbytes} bytes of {kind}", rule, errno.EINVAL)
        _no_pages_yet(frames, name or kind, start, nbytes)
        self.frames, self.kind, self.start, self.nbytes, self.provider = frames, kind, start, nbytes, provider
        self.name = name or kind
        self.flags = VM_SHARED | (VM_MIXEDMAP if kind in {"p2pdma", "foreign"} else 0)
        self.i_mmap: dict[int, Mm] = {}
        self._memremap_pages()

    def _memremap_pages(self) -> None:
        frames, start, nbytes = self.frames, self.start, self.nbytes
        frames.folios.add_runs(((start, nbytes),), 0, _REFS, PG_uptodate, self)
        pages = nbytes >> PAGE_SHIFT
        frames.emit(("MemremapPages", frames.now(), 0, self.name, start, nbytes, _REFS, PG_uptodate, pages))

    def mmap(self, mm: Mm, nbytes: int, prot: str = "rw-") -> UserAddr:
        """Map the first `nbytes`, shared. Raises SyscallError EINVAL for more than there is; else as do_mmap."""
        if nbytes > self.nbytes:
            raise SyscallError(
                "mmap", f"length={nbytes}", f"is more than the {self.nbytes} of {self.name}", errno.EINVAL
            )
        return do_mmap(mm, nbytes, prot, self.name, ops=self)

    def fault(self, mm: Mm, vma: VMA, first: int, last: int, *, write: bool) -> int:  # noqa: ARG002 - read or write
        """Map pages [first, last), by PTEs (MM-28); nothing is allocated. Raises EFAULT (SIGBUS) once it is gone."""
        if not self.nbytes:
            addr = vma.start + first * PAGE_SIZE
            raise SyscallError(
                "mm", f"addr={addr:#x}", f"was memory of {self.name}, which is gone (SIGBUS)", errno.EFAULT
            )
        self.i_mmap[mm.task] = mm
        run = (self.start + ((vma.pgoff + first) << PAGE_SHIFT), (last - first) << PAGE_SHIFT)
        set_ptes(mm, vma, first, (run,), vma.pte_flags | PAGE_ACCESSED)
        return 0

    def memunmap(self) -> None:
        """Unmap the pages everywhere and take them away: unplugged (memunmap_pages).

        Raises SyscallError EBUSY, and changes nothing, where somebody has pinned one of them: the kernel waits here.
        """
        whole = ((self.start, self.nbytes),)
        groups = [group for group, _ in list(self.frames.folios.groups(whole))]
        if self.frames.ledger.covers(self.start, self.nbytes) or any(group.maybe_dma_pinned for group in groups):
            raise SyscallError("memremap", self.name, "is pinned: it goes when that ends", errno.EBUSY)
        unmap_mapping_range(self, self.i_mmap)
        for group, _ in list(self.frames.folios.groups(whole)):
            self.frames.folios.remove(group)
        self.frames.emit(("MemunmapPages", self.frames.now(), 0, self.name, self.start, self.nbytes))
        self.nbytes = 0


class DevicePrivate(DevPagemap):
    """Memory that no CPU reaches (HMM): a touch brings the data to RAM (migrate_to_ram), and frees its page."""

    def __init__(self, frames: Frames, start: PhysAddr, nbytes: int) -> None:
        """Make the pages; mappings of them are private to their task."""
        super().__init__(frames, "device-private", start, nbytes)
        self.flags = 0

    def fault(self, mm: Mm, vma: VMA, first: int, last: int, *, write: bool) -> int:  # noqa: ARG002 - read or write
        """Map fresh RAM, and move over what the device has; return how many folios came. Raises SyscallError ENOMEM."""
        came = populate(mm, vma, first, last)
        at = self.start + ((vma.pgoff + first) << PAGE_SHIFT)
        for addr, nbytes in vma.table.ranges(first, last):
            self.frames.copy(addr, at, nbytes)
            self.frames.wipe(at, nbytes)
            at += nbytes
        return came

    def migrate_to_device(self, mm: Mm, vma: VMA) -> None:
        """Move what is in RAM to the device, and leave nothing mapped (migrate_vma_pages)."""
        for first, last, _ in vma.table.present(0, vma.pages):
            at = self.start + ((vma.pgoff + first) << PAGE_SHIFT)
            for addr, nbytes in vma.table.ranges(first, last):
                self.frames.copy(at, addr, nbytes)
                at += nbytes
        mm.zap(vma, 0, vma.pages)


def _no_pages_yet(frames: Frames, name: str, start: int, nbytes: int) -> None:
    """Raise BadInput EBUSY where [start, start + nbytes) is RAM, or a device's that has struct pages."""
    first, last = start >> PAGE_SHIFT, (start + nbytes) >> PAGE_SHIFT
    ram = any(first < zone.end and zone.start < last for zone in frames.buddy.zones)
    if ram or next(iter(frames.folios.groups(((start, nbytes),))), None) is not None:
        rule = "overlaps memory that has struct pages already"
        raise BadInput("memremap", f"{name} at {start:#x}+{nbytes}", rule, errno.EBUSY)


def unmap_mapping_range(ops: object, i_mmap: dict[int, Mm]) -> None:
    """Unmap what `ops` has mapped, in every address space that ever had a page of it; the mappings stay."""
    for mm in i_mmap.values():
        for vma in mm.space.vmas:
            if vma.ops is ops:
                mm.zap(vma, 0, vma.pages)
