"""Bounce buffers: what a device cannot reach is copied through slots that it can (kernel/dma/swiotlb.c)."""

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from labkit.errors import BadInput, InvariantError, SyscallError
from labkit.hardware.ram import RAM
from labkit.kernel.dma.ops import NO_ATTRS, Attrs, DmaDevice, DmaDir
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SIZE

IO_TLB_SHIFT = 11
IO_TLB_SIZE = 1 << IO_TLB_SHIFT
"""Bytes of a slot (SWI-1)."""
IO_TLB_SEGSIZE = 128
"""Slots in a row; no bounce is longer (SWI-1)."""
SEGMENT_BYTES = IO_TLB_SIZE * IO_TLB_SEGSIZE
IO_TLB_DEFAULT_SIZE, IO_TLB_MIN_BYTES = 64 << 20, 1 << 20


class Bounce(NamedTuple):
    """One bounce that is out: `nbytes` at physical `phys`, in `slots` slots from number `first` on."""

    phys: int
    nbytes: int
    first: int
    slots: int


class Area:
    """Slots [first, end) with an index of their own, behind the last that were taken (struct io_tlb_area)."""

    def __init__(self, first: int, end: int) -> None:
        """Begin at the first slot."""
        self.first, self.end, self.index = first, end, first

    def starts(self, stride: int) -> Iterator[int]:
        """Yield each slot at which a search may begin to look: every `stride`, from the index on and around."""
        at = min(-(-self.index // stride) * stride, self.end)
        yield from range(at, self.end, stride)
        yield from range(self.first, at, stride)


class SwioTlb:
    """The pool of one machine."""

    def __init__(
        self, ram: RAM, blocks: Sequence[int], emit: Emit, now: Callable[[], int], *, stride: int = PAGE_SIZE,
        areas: int = 1,
    ) -> None:  # fmt: skip
        """Bounce in `ram`. `blocks`: physical addresses of 256 KiB each (SWI-1).

        `stride`: bytes from one bounced page to the next (SWI-2, by kernel). `areas`: about one a CPU, a power of two.
        Raises BadInput for less than 1 MiB.
        """
        if len(blocks) * SEGMENT_BYTES < IO_TLB_MIN_BYTES:
            raise BadInput("swiotlb", f"a pool of {len(blocks)} segments", "is less than 1 MiB (SWI-1)", errno.EINVAL)
        self._ram, self._emit, self._now, self._stride = ram, emit, now, stride >> IO_TLB_SHIFT
        self.segments = tuple(blocks)
        self._segment = {addr // SEGMENT_BYTES: number for number, addr in enumerate(blocks)}
        slots = len(blocks) * IO_TLB_SEGSIZE
        self._used = bytearray(slots)
        each = -(-len(blocks) // areas) * IO_TLB_SEGSIZE
        self._areas = [Area(first, min(first + each, slots)) for first in range(0, slots, each)]
        self._out: dict[int, Bounce] = {}
        self.in_use = self.bounced = 0
        """Slots that are taken now; bytes copied so far, both ways."""

    def map(self, phys: int, nbytes: int, dev: DmaDevice, *, granule: int = 0) -> int:
        """Return the physical address of a copy of `nbytes` at `phys`, which is as deep in its slot as the device asks.

        It is copied whatever the direction, so that what the device leaves alone is unchanged later (SWI-3).
        `granule`: whole blocks of so many bytes are taken, with zeros around the copy (IOVA-1).
        Raises SyscallError ENOMEM where no slots are free, EINVAL beyond max_mapping_size (SWI-1).
        """
        if nbytes > self.max_mapping_size(dev):
            raise SyscallError("swiotlb", f"{nbytes} bytes", "are more than a bounce may have (SWI-1)", errno.EINVAL)
        align = max(dev.min_align_mask, granule - 1)
        deep = phys & align & (max(granule, IO_TLB_SIZE) - 1)
        whole = -(-(nbytes + deep) // granule) * granule if granule else nbytes + deep
        slots = -(-whole // IO_TLB_SIZE)
        first = self._find(slots, phys & ~(max(granule, 1) - 1), align, dev.seg_boundary_mask)
        self._used[first : first + slots] = b"\1" * slots
        self.in_use += slots
        start = self._addr(first)
        if granule:
            self._ram.view(start, whole)[:] = bytes(whole)
        addr = start + deep
        self._out[addr] = Bounce(phys, nbytes, first, slots)
        self._copy(phys, addr, nbytes, back=False)
        self._emit(("SwiotlbBounced", self._now(), 0, phys, addr, nbytes))
        return addr

    def unmap(self, addr: int, nbytes: int, dir: DmaDir, attrs: Attrs = NO_ATTRS) -> int:  # noqa: A002 - the kernel's name
        """Free the slots of the bounce at `addr`, copied back first if the device may have written (SWI-3).

        Return the bytes copied. Raises InvariantError EINVAL for what is not out.
        """
        bounce = self._out.get(addr)
        if bounce is None or bounce.nbytes != nbytes:
            raise InvariantError("swiotlb", f"{addr:#x}+{nbytes}", "is not bounced", errno.EINVAL)
        back = dir is not DmaDir.TO_DEVICE and not attrs & Attrs.SKIP_CPU_SYNC
        try:
            if back:
                self._copy(bounce.phys, addr, nbytes, back=True)
        finally:
            del self._out[addr]
            self._used[bounce.first : bounce.first + bounce.slots] = bytes(bounce.slots)
            self.in_use -= bounce.slots
        return nbytes if back else 0

    def fill(self) -> None:
        """Let others have every slot that is free now: only what comes back can be had again (SWI-2)."""
        self._used[:] = b"\1" * len(self._used)

    def owns(self, addr: int) -> bool:
        """Return whether `addr` is in the pool."""
        return addr // SEGMENT_BYTES in self._segment

    def origin(self, addr: int) -> int:
        """Return the physical address whose bounce is at `addr`. Raises InvariantError EINVAL without one."""
        for start, bounce in self._out.items():
            if start <= addr < start + bounce.nbytes:
                return bounce.phys + addr - start
        raise InvariantError("swiotlb", f"{addr:#x}", "is not bounced", errno.EINVAL)

    @staticmethod
    def max_mapping_size(dev: DmaDevice) -> int:
        """Return the bytes of the longest bounce: a segment, less what keeps the alignment of `dev` (SWI-1)."""
        return SEGMENT_BYTES - -(-dev.min_align_mask // IO_TLB_SIZE) * IO_TLB_SIZE

    def _find(self, slots: int, phys: int, align: int, boundary: int) -> int:
        """Return the first of `slots` free slots in a row, in one segment, as deep in `align` as `phys` is (SWI-2)."""
        high = align & ~(IO_TLB_SIZE - 1)
        stride = (high >> IO_TLB_SHIFT) + 1
        if slots << IO_TLB_SHIFT >= PAGE_SIZE:
            stride = max(stride, self._stride)
        for area in () if self.in_use + slots > len(self._used) else self._areas:
            for start in area.starts(stride):
                first = start + ((phys & high) >> IO_TLB_SHIFT)
                if first + slots <= area.end and self._fits(first, slots, boundary):
                    area.index = first + slots
                    return first
        raise SyscallError("swiotlb", f"{slots} slots", "are not to be had: the pool is full (SWI-2)", errno.ENOMEM)

    def _fits(self, first: int, slots: int, boundary: int) -> bool:
        """Return whether these slots are free, in one segment, and on one side of the device's boundary."""
        if first % IO_TLB_SEGSIZE + slots > IO_TLB_SEGSIZE or self._used.find(1, first, first + slots) >= 0:
            return False
        return (self._addr(first) & boundary) + slots * IO_TLB_SIZE <= boundary + 1

    def _addr(self, slot: int) -> int:
        """Return the physical address of a slot."""
        return self.segments[slot // IO_TLB_SEGSIZE] + slot % IO_TLB_SEGSIZE * IO_TLB_SIZE

    def _copy(self, phys: int, slot: int, nbytes: int, *, back: bool) -> None:
        """Copy between memory and its bounce; memory may be several views, a bounce is one."""
        bounce, at = self._ram.view(slot, nbytes), 0
        for view in self._ram.views(phys, nbytes):
            part = bounce[at : at + view.nbytes]
            if back:
                view[:] = part
            else:
                part[:] = view
            at += view.nbytes
        self.bounced += nbytes
