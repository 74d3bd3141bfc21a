"""Xen: what a guest takes for a physical address is one of its own counting, and the device knows the machine's (D-16).

What is one range for the guest and several for the machine is split where a list is given, and bounced where it is not.
"""

import errno
from collections.abc import Mapping, Sequence

from labkit.errors import BadInput, SyscallError
from labkit.hardware.xen import P2m
from labkit.kernel.dma.ops import NO_ATTRS, Attrs, DmaDevice, DmaDir, DmaMapOps, IovaState, Undone
from labkit.kernel.dma.piecewise import map_each, total
from labkit.kernel.dma.swiotlb import SwioTlb
from labkit.scatter.payload import Range, Ranges, run_length
from labkit.units import PAGE_SHIFT, PAGE_SIZE, DmaAddr, PhysAddr

_LOW = PAGE_SIZE - 1


class XenMap:
    """Guest frames become machine frames; `inner` maps those (drivers/xen/swiotlb-xen.c)."""

    def __init__(self, inner: DmaMapOps, p2m: P2m | Mapping[int, int], swiotlb: SwioTlb | None = None) -> None:
        """Map by `inner`. `p2m`: what the hypervisor says, or guest to machine frame where that is another.

        `swiotlb`: a pool whose segments are one run of machine frames each.
        """
        self.inner, self.swiotlb = inner, swiotlb
        self.p2m = p2m if isinstance(p2m, P2m) else P2m(p2m)

    @property
    def dev(self) -> DmaDevice:
        """As the inner one."""
        return self.inner.dev

    @property
    def ioptes(self) -> int:
        """As the inner one."""
        return self.inner.ioptes

    @property
    def bounced(self) -> int:
        """Bytes copied so far, by the inner one too."""
        return self.inner.bounced + (self.swiotlb.bounced if self.swiotlb else 0)

    @property
    def flushes(self) -> int:
        """As the inner one."""
        return self.inner.flushes

    def map_phys(self, phys: int, nbytes: int, dir: DmaDir, attrs: Attrs = NO_ATTRS) -> DmaAddr:  # noqa: A002 - the kernel's name
        """Map machine memory that is one range; what is several is bounced, or EIO (D-16).

        Memory of another domain may come with machine addresses: the grant that brought it has told them.
        """
        if attrs & Attrs.MACHINE:
            return self.inner.map_phys(phys, nbytes, dir, attrs)
        machine = self.p2m.ranges(phys, nbytes)
        if len(machine) == 1 and (not self.swiotlb or attrs & Attrs.MMIO or sum(machine[0]) - 1 <= self.dev.mask):
            return self.inner.map_phys(machine[0][0], nbytes, dir, attrs)
        if self.swiotlb is None and self.inner.merge_boundary:
            return DmaAddr(self.inner.map_sg(machine, dir, attrs)[0][0])
        if self.swiotlb is None or attrs & Attrs.MMIO:
            rule = f"is {len(machine)} ranges of machine memory, and cannot be bounced (D-16)"
            raise SyscallError("xen", f"{phys:#x}+{nbytes}", rule, errno.EIO)
        slot = self.swiotlb.map(phys, nbytes, self.dev)
        try:
            return self.inner.map_phys(self.p2m.ranges(slot, nbytes)[0][0], nbytes, dir, attrs)
        except SyscallError:
            self.swiotlb.unmap(slot, nbytes, dir, Attrs.SKIP_CPU_SYNC)
            raise

    def unmap_phys(self, addr: int, nbytes: int, dir: DmaDir, attrs: Attrs = NO_ATTRS) -> Undone:  # noqa: A002 - the same
        """Take one mapping back; a bounce is copied back first."""
        slot = self._slot(addr)
        undone = self.inner.unmap_phys(addr, nbytes, dir, attrs)
        if slot is None or self.swiotlb is None:
            return undone
        return undone._replace(bounced=undone.bounced + self.swiotlb.unmap(slot, nbytes, dir, attrs))

    def map_sg(self, sg: Sequence[Range], dir: DmaDir, attrs: Attrs = NO_ATTRS) -> tuple[Range, ...]:  # noqa: A002 - the same
        """Map what the machine has of each entry: where its frames do not touch, there are more (ours: no bounce)."""
        if attrs & Attrs.MACHINE or self.inner.merge_boundary:
            return self.inner.map_sg(self._machine(sg, attrs), dir, attrs)
        return map_each(self, self.segments(tuple(sg)), dir, attrs)

    def unmap_sg(self, sg: Sequence[Range], dma: Sequence[Range], dir: DmaDir) -> Undone:  # noqa: A002 - the same
        """Take what map_sg made back."""
        if self.inner.merge_boundary:
            return self.inner.unmap_sg(sg, dma, dir)
        return total([self.unmap_phys(addr, nbytes, dir) for addr, nbytes in dma])

    def iova_try_alloc(self, phys: int, nbytes: int) -> IovaState | None:
        """As the inner one: a page begins where it begins, whoever counts."""
        return self.inner.iova_try_alloc(phys, nbytes)

    def iova_link(self, state: IovaState, offset: int, phys: int, nbytes: int, attrs: Attrs = NO_ATTRS,
                  dir: DmaDir = DmaDir.BIDIRECTIONAL) -> None:  # noqa: A002  # fmt: skip
        """Link each machine range behind the memory; a failure takes those before it out again."""
        done = 0
        try:
            for addr, size in self._machine([(phys, nbytes)], attrs):
                self.inner.iova_link(state, offset + done, addr, size, attrs, dir)
                done += size
        except SyscallError:
            if done:
                self.inner.iova_unlink(state, offset, done)
            raise

    def iova_sync(self, state: IovaState) -> None:
        """As the inner one."""
        self.inner.iova_sync(state)

    def iova_unlink(self, state: IovaState, offset: int, nbytes: int) -> Undone:
        """As the inner one."""
        return self.inner.iova_unlink(state, offset, nbytes)

    def iova_destroy(self, state: IovaState, mapped: int) -> Undone:
        """As the inner one."""
        return self.inner.iova_destroy(state, mapped)

    def iova_free(self, state: IovaState) -> None:
        """As the inner one."""
        self.inner.iova_free(state)

    def segments(self, ranges: Ranges) -> Ranges:
        """Return `ranges`, cut where the machine's frames do not touch (xen_biovec_phys_mergeable).

        Ours: every range is; upstream cuts vectors that are built page by page, and bounces a folio that is not one
        range of the machine.
        """
        if self.inner.merge_boundary:
            return ranges
        out: list[Range] = []
        for phys, nbytes in ranges:
            for _, size in self.p2m.ranges(phys, nbytes):
                out.append((phys, size))
                phys += size  # noqa: PLW2901 - the rest of the range
        return ranges if len(out) == len(ranges) else tuple(out)

    def phys_of(self, dma: Sequence[Range]) -> Ranges:
        """Return what the guest calls the memory behind `dma`; of a bounce, the memory that is bounced."""
        guest = [part for addr, nbytes in self.inner.phys_of(dma) for part in self._guest(addr, nbytes)]
        pool = self.swiotlb
        return run_length([(pool.origin(at), n) if pool is not None and pool.owns(at) else (at, n) for at, n in guest])

    def alloc_coherent(self, phys: PhysAddr, nbytes: int) -> DmaAddr:
        """Map memory that is shared for good, made one range of the machine first. Raises BadInput."""
        self.p2m.exchange(phys, nbytes)
        machine = self.p2m.ranges(phys, nbytes)
        if len(machine) > 1:
            rule = f"is {len(machine)} ranges of machine memory (D-16)"
            raise BadInput("xen", f"{phys:#x}+{nbytes}", rule, errno.ENOMEM)
        return self.inner.alloc_coherent(PhysAddr(machine[0][0]), nbytes)

    @property
    def need_unmap(self) -> bool:
        """Whether a bounce may have to be copied back, or the inner one has something to do."""
        return self.swiotlb is not None or self.inner.need_unmap

    @property
    def max_mapping_size(self) -> int:
        """As the inner one; no more than a bounce, where there is one (SWI-1, DMA-4)."""
        most = self.inner.max_mapping_size
        return min(most, self.swiotlb.max_mapping_size(self.dev)) if self.swiotlb else most

    @property
    def opt_mapping_size(self) -> int:
        """As the inner one."""
        return min(self.inner.opt_mapping_size, self.max_mapping_size)

    @property
    def merge_boundary(self) -> int:
        """As the inner one."""
        return self.inner.merge_boundary

    def _machine(self, ranges: Sequence[Range], attrs: Attrs) -> Sequence[Range]:
        """Return `ranges` as the machine counts, which MACHINE says that they are already."""
        if attrs & Attrs.MACHINE:
            return ranges
        return [part for phys, nbytes in ranges for part in self.p2m.ranges(phys, nbytes)]

    def _guest(self, addr: int, nbytes: int) -> list[Range]:
        """Return the guest's pages behind machine memory; a grant that has frames of the guest by those."""
        back = {mfn: pfn for pfn, mfn in self.p2m.grants.items()}
        out, end = [], addr + nbytes
        while addr < end:
            take, mfn = min(end - addr, PAGE_SIZE - (addr & _LOW)), addr >> PAGE_SHIFT
            out.append(((back.get(mfn, self.p2m.guest(mfn)) << PAGE_SHIFT) + (addr & _LOW), take))
            addr += take
        return out

    def _slot(self, addr: int) -> int | None:
        """Return the slot that the device knows as `addr`; None where it is none."""
        if self.swiotlb is None:
            return None
        machine = self.inner.phys_of([(addr, 1)])[0][0]
        slot = (self.p2m.guest(machine >> PAGE_SHIFT) << PAGE_SHIFT) + (machine & _LOW)
        return slot if self.swiotlb.owns(slot) else None
