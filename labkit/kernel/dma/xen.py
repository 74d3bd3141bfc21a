"""Xen: what a guest takes for a physical address is one of its own counting, and the device knows the machine's (D-16).

swiotlb-xen without its bounce: where machine frames do not touch, a range is split instead.
"""

import errno
from collections.abc import Iterator, Mapping

from labkit.errors import SyscallError
from labkit.kernel.dma.ops import DmaMapOps, DmaMapping
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.payload import Range, run_length
from labkit.trace.events import Ranges
from labkit.units import PAGE_SHIFT, PAGE_SIZE, DmaAddr, PhysAddr

_LOW = PAGE_SIZE - 1


class XenMap:
    """Guest frames become machine frames, page by page; `inner` maps those."""

    def __init__(self, inner: DmaMapOps, p2m: Mapping[int, int]) -> None:
        """Map by `inner`. `p2m`: guest frame number to machine frame number; a frame that is absent is its own."""
        self.inner, self.p2m = inner, p2m

    @property
    def stale(self) -> bool:
        """As the inner one."""
        return self.inner.stale

    @property
    def syncs(self) -> int:
        """As the inner one."""
        return self.inner.syncs

    def map(self, ranges: Ranges, cls: MemoryClass = RAM) -> DmaMapping:
        """Map the machine memory behind `ranges`; `phys` of the mapping is as the guest counts, and as it was given.

        Foreign memory comes with machine addresses: the grant that brought it has told them (D-16).
        """
        if cls.kind == "foreign":
            return self.inner.map(ranges, cls)
        phys = ranges if len(ranges) == 1 else run_length(ranges)
        return self.inner.map(self.machine(phys), cls)._replace(phys=phys)

    def unmap(self, mapping: DmaMapping) -> None:
        """Take `mapping` back."""
        self.inner.unmap(mapping)

    def alloc_coherent(self, phys: PhysAddr, nbytes: int) -> DmaAddr:
        """Map memory that is shared for good. Raises SyscallError ENOMEM where its machine frames do not touch."""
        machine = self.machine(((phys, nbytes),))
        if len(machine) > 1:
            what = f"{phys:#x}+{nbytes}"
            raise SyscallError("xen", what, f"is {len(machine)} ranges of machine memory (D-16)", errno.ENOMEM)
        return self.inner.alloc_coherent(PhysAddr(machine[0][0]), nbytes)

    def machine(self, ranges: Ranges) -> Ranges:
        """Return `ranges` as the machine counts: one range where machine frames touch."""
        return run_length(tuple(self._frames(ranges)))

    def _frames(self, ranges: Ranges) -> Iterator[Range]:
        for addr, nbytes in ranges:
            at, end = addr, addr + nbytes
            while at < end:
                pfn, offset = at >> PAGE_SHIFT, at & _LOW
                take = min(end - at, PAGE_SIZE - offset)
                yield (self.p2m.get(pfn, pfn) << PAGE_SHIFT) + offset, take
                at += take
