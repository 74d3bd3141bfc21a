"""dma-iommu: scattered frames become one device range, and stop being one, at once (strict) or later (lazy)."""

import errno
from collections.abc import Callable, Sequence
from typing import NamedTuple

from labkit.errors import BadInput, InvariantError, SyscallError
from labkit.hardware.iommu import READ, WRITE, Iommu, physical
from labkit.kernel.dma.concat import concatenated, places_of, whole_pages
from labkit.kernel.dma.iova import IovaDomain
from labkit.kernel.dma.ops import NO_ATTRS, NOTHING, Attrs, DmaDevice, DmaDir, IovaState, Undone
from labkit.kernel.dma.piecewise import SIZE_MAX, map_each, total
from labkit.kernel.dma.swiotlb import SwioTlb
from labkit.scatter.payload import Range, Ranges, run_length
from labkit.units import PAGE_SHIFT, PAGE_SIZE, DmaAddr, PhysAddr

FLUSH_QUEUE = 256
"""Entries of the flush queue; a full one is emptied at once (IOVA-7)."""
FLUSH_NS = 10_000_000
"""The flush queue is emptied 10 ms after its first entry (IOVA-7)."""
OPT_MAPPING_SIZE = PAGE_SIZE << 5
"""The largest range that the IOVA allocator keeps for reuse (DMA-4, IOVA-3)."""
APERTURE = (1 << 48) - 1
"""The greatest device address that a page table of four levels translates (IOVA-2)."""
MSI_WINDOW = 0xFEE0_0000, 1 << 20
"""Device addresses that mean interrupts on x86, and are never translated."""

_LOW = PAGE_SIZE - 1
_TO, _FROM = DmaDir.TO_DEVICE, DmaDir.FROM_DEVICE
_SYNCED, _STALE = Undone(syncs=1), Undone(stale=True)
_Mapped = tuple[Ranges, Ranges, int]
"""Device ranges, physical ranges, and pages of device address space."""


class Stale(NamedTuple):
    """What is unmapped, and reachable until the flush."""

    dma: Ranges
    phys: Ranges
    pages: int


class IommuMap:
    """All of linux/dma-mapping.h behind an IOMMU (drivers/iommu/dma-iommu.c)."""

    def __init__(
        self, iommu: Iommu, dev: DmaDevice, later: Callable[[int, Callable[[], None]], None],
        flushed: Callable[[int], None], *, strict: bool, destroy_syncs: bool = True, swiotlb: SwioTlb | None = None,
    ) -> None:  # fmt: skip
        """Map for `dev` through `iommu`. `later(ns, f)` calls f after ns; `flushed(n)` is told of n deferred flushes.

        `destroy_syncs`: whether iova_destroy never waits for a flush (BLKDMA-5, by kernel). `swiotlb` is for a device
        that nobody trusts (IOVA-1).
        """
        self.iommu, self.dev, self._later, self._flushed = iommu, dev, later, flushed
        self._strict = strict or dev.untrusted
        self._destroy_syncs, self._swiotlb = self._strict or destroy_syncs, swiotlb
        self.iovas = IovaDomain((min(dev.mask, APERTURE) + 1) >> PAGE_SHIFT)
        self.iovas.reserve(*MSI_WINDOW)
        self.ioptes = 0
        self._live: dict[int, _Mapped] = {}
        """By device address; of states, what is linked in `_links`."""
        self._links: dict[int, list[tuple[int, int, int]]] = {}
        """Of each state that is out, by its address: (offset, physical address, bytes)."""
        self._queue: list[_Mapped] = []
        self.flushes = 0

    @property
    def bounced(self) -> int:
        """Bytes copied so far: of a device that nobody trusts."""
        return self._swiotlb.bounced if self._swiotlb else 0

    @property
    def queue(self) -> list[Stale]:
        """Return what is unmapped, and reachable until the flush, oldest first."""
        return [Stale(*mapped) for mapped in self._queue]

    def map_phys(self, phys: int, nbytes: int, dir: DmaDir, attrs: Attrs = NO_ATTRS) -> DmaAddr:  # noqa: A002 - the kernel's name
        """Return a device address for `nbytes` at `phys`, as deep in its page (IOVA-1). Errors: ENOMEM, EPERM."""
        if self.dev.untrusted and (phys | nbytes) & _LOW:
            phys = self._bounce(phys, nbytes, attrs)
        offset = phys & _LOW
        pages = (offset + nbytes + _LOW) >> PAGE_SHIFT
        try:
            addr = (self.iovas.alloc(pages) << PAGE_SHIFT) + offset
        except SyscallError:
            self._drop(phys, nbytes)
            raise
        self.ioptes += self.iommu.map(addr, phys, nbytes, READ if dir is _TO else WRITE if dir is _FROM else 3)
        self._live[addr] = ((addr, nbytes),), ((phys, nbytes),), pages
        return DmaAddr(addr)

    def unmap_phys(self, addr: int, nbytes: int, dir: DmaDir, attrs: Attrs = NO_ATTRS) -> Undone:  # noqa: A002 - the kernel's name
        """Take the entries out; the IOTLB is told now (strict) or with the next flush (lazy, IOVA-7)."""
        mapped = self._live.get(addr)
        if mapped is None or (mapped[0][0][1] != nbytes and sum(n for _, n in mapped[0]) != nbytes):
            raise InvariantError("dma", f"{addr:#x}+{nbytes}", "is not mapped", errno.EINVAL)
        undone = self._unmap(mapped, defer=not self._strict)
        del self._live[addr]
        if self._swiotlb is not None and self._swiotlb.owns(mapped[1][0][0]):
            return undone._replace(bounced=self._swiotlb.unmap(mapped[1][0][0], nbytes, dir, attrs))
        return undone

    def map_sg(self, sg: Sequence[Range], dir: DmaDir, attrs: Attrs = NO_ATTRS) -> tuple[Range, ...]:  # noqa: A002 - the same
        """Map all entries into one range of addresses, and concatenate them where the device allows (IOVA-5)."""
        if self.dev.untrusted and any((phys | nbytes) & _LOW for phys, nbytes in sg):
            return map_each(self, sg, dir, attrs)
        places, pages = places_of(sg, self.dev.seg_boundary_mask)
        start = self.iovas.alloc(pages) << PAGE_SHIFT
        perm = READ if dir is _TO else WRITE if dir is _FROM else READ | WRITE
        for at, phys, nbytes in whole_pages(places, sg):
            self.ioptes += self.iommu.map(start + at, phys, nbytes, perm)
        dma = concatenated([(start + at, n) for at, (_, n) in zip(places, sg, strict=True)], self.dev)
        self._live[dma[0][0]] = dma, tuple(sg), pages
        return dma

    def unmap_sg(self, sg: Sequence[Range], dma: Sequence[Range], dir: DmaDir) -> Undone:  # noqa: A002 - the same
        """Take what map_sg made back, as a whole."""
        mapped = self._live.get(dma[0][0]) if dma else None
        if mapped is not None and len(mapped[1]) < len(sg):  # mapped one by one
            return total([self.unmap_phys(addr, nbytes, dir) for addr, nbytes in dma])
        if mapped is None or tuple(mapped[0]) != tuple(dma):
            raise InvariantError("dma", f"a scatterlist of {len(sg)} entries", "is not mapped", errno.EINVAL)
        undone = self._unmap(mapped, defer=not self._strict)
        del self._live[dma[0][0]]
        return undone

    def iova_try_alloc(self, phys: int, nbytes: int) -> IovaState | None:
        """Return a range of device addresses, as deep in its page as `phys` is; None where there is no room (BLKDMA-3).

        None too for a device that nobody trusts, if its ends are no whole pages: those are bounced (ours).
        """
        offset = phys & _LOW
        if self.dev.untrusted and (phys | nbytes) & _LOW:
            return None
        try:
            addr = (self.iovas.alloc((offset + nbytes + _LOW) >> PAGE_SHIFT) << PAGE_SHIFT) + offset
        except SyscallError:
            return None
        self._links[addr] = []
        return IovaState(addr, nbytes)

    def iova_link(
        self, state: IovaState, offset: int, phys: int, nbytes: int, attrs: Attrs = NO_ATTRS,
        dir: DmaDir = DmaDir.BIDIRECTIONAL,  # noqa: A002 - the same
    ) -> None:  # fmt: skip
        """Let byte `offset` of `state` and what follows lead to `phys`. Errors: EIO off a page, but for the first."""
        links, at = self._linked(state), state.addr + offset
        if (at ^ phys) & _LOW or (offset and phys & _LOW):
            raise SyscallError("dma", f"link of {phys:#x} at byte {offset}", "is off a page (IOVA-8)", errno.EIO)
        if self.dev.untrusted and (phys | nbytes) & _LOW and attrs & Attrs.MMIO:
            raise SyscallError(
                "dma", f"link of {phys:#x}+{nbytes}", "would have to be bounced, as MMIO is not (IOVA-8)", errno.EPERM
            )
        if offset + nbytes > state.nbytes:
            raise InvariantError("dma", f"byte {offset}+{nbytes}", f"is beyond {state.nbytes} (IOVA-8)", errno.EINVAL)
        self.ioptes += self.iommu.map(at, phys, nbytes, READ if dir is _TO else WRITE if dir is _FROM else 3)
        links.append((offset, phys, nbytes))

    def iova_sync(self, state: IovaState) -> None:
        """Do nothing but look: this IOTLB remembers no page that was not mapped."""
        self._linked(state)

    def iova_unlink(self, state: IovaState, offset: int, nbytes: int) -> Undone:
        """Take links out again and tell the IOTLB; the addresses stay allocated. They go as they were linked."""
        links, end = self._linked(state), offset + nbytes
        gone = [link for link in links if offset <= link[0] and link[0] + link[2] <= end]
        if sum(link[2] for link in gone) != nbytes:
            what = f"byte {offset}+{nbytes} of {state.addr:#x}"
            raise InvariantError("dma", what, "is not linked like that", errno.EINVAL)
        self.iommu.unmap(state.addr + offset, nbytes)
        self.iommu.invalidate(state.addr + offset, nbytes)
        links[:] = [link for link in links if link not in gone]
        return _SYNCED

    def iova_destroy(self, state: IovaState, mapped: int) -> Undone:
        """Unlink the first `mapped` bytes and free the addresses, at once or, by kernel, with the flush (BLKDMA-5)."""
        links = self._linked(state)
        if sum(link[2] for link in links) != mapped:
            raise InvariantError("dma", f"{mapped} bytes of {state.addr:#x}", "are not what is linked", errno.EINVAL)
        if not mapped:
            self.iova_free(state)
            return NOTHING
        pages = ((state.addr & _LOW) + state.nbytes + _LOW) >> PAGE_SHIFT
        whole = (state,), tuple((phys, nbytes) for _, phys, nbytes in links), pages
        undone = self._unmap(whole, defer=not self._destroy_syncs, nbytes=mapped)
        del self._links[state.addr]
        return undone

    def iova_free(self, state: IovaState) -> None:
        """Free addresses to which nothing is linked. Raises InvariantError EINVAL where something is."""
        if self._linked(state):
            raise InvariantError("dma", f"{state.addr:#x}+{state.nbytes}", "is still linked", errno.EINVAL)
        self.iovas.free(state.addr >> PAGE_SHIFT, ((state.addr & _LOW) + state.nbytes + _LOW) >> PAGE_SHIFT)
        del self._links[state.addr]

    def segments(self, ranges: Ranges) -> Ranges:
        """Return `ranges`: what touches for the kernel does so for the device."""
        return ranges

    def phys_of(self, dma: Sequence[Range]) -> Ranges:
        """Return the physical ranges behind `dma`, by the page table."""
        return run_length(tuple(physical(self.iommu, dma)))

    def alloc_coherent(self, phys: PhysAddr, nbytes: int) -> DmaAddr:
        """Map memory that driver and device share for good. Raises BadInput ENOMEM where the mask leaves no room."""
        try:
            iova = self.iovas.alloc((nbytes + _LOW) >> PAGE_SHIFT) << PAGE_SHIFT
        except SyscallError as full:
            what = f"device_mask={self.dev.mask.bit_length()}"
            rule = f"leaves no device addresses for {nbytes} bytes that driver and device share (IOVA-2)"
            raise BadInput("dma", what, rule, full.errno) from None
        self.iommu.map(iova, phys, nbytes)
        return DmaAddr(iova)

    @property
    def need_unmap(self) -> bool:
        """Always."""
        return True

    @property
    def max_mapping_size(self) -> int:
        """No limit; for a device that nobody trusts, that of a bounce (DMA-4)."""
        return self._swiotlb.max_mapping_size(self.dev) if self.dev.untrusted and self._swiotlb else SIZE_MAX

    @property
    def opt_mapping_size(self) -> int:
        """128 KiB: addresses for more are never kept for reuse (DMA-4)."""
        return OPT_MAPPING_SIZE

    @property
    def merge_boundary(self) -> int:
        """A joint is bridged where it lies on a page."""
        return _LOW

    def flush(self) -> None:
        """Invalidate the whole IOTLB once, and only then let the queued addresses be used again (IOVA-7)."""
        if self._queue:
            self.iommu.invalidate_all()
            for dma, _, pages in self._queue:
                self.iovas.free(dma[0][0] >> PAGE_SHIFT, pages)
            self._queue.clear()
            self.flushes += 1
            self._flushed(1)

    def _unmap(self, mapped: _Mapped, *, defer: bool, nbytes: int = 0) -> Undone:
        """Take the entries out, of the first `nbytes` alone if any; free the addresses now, or with the flush."""
        dma, _, pages = mapped
        start = dma[0][0] & ~_LOW
        size = ((dma[0][0] & _LOW) + nbytes + _LOW & ~_LOW) if nbytes else pages << PAGE_SHIFT
        self.iommu.unmap(start, size)
        if defer:
            self._queue.append(mapped)
            if len(self._queue) in {1, FLUSH_QUEUE}:
                self._arm(FLUSH_NS if len(self._queue) == 1 else 0)
            return _STALE
        self.iommu.invalidate(start, size)
        self.iovas.free(start >> PAGE_SHIFT, pages)
        return _SYNCED

    def _arm(self, delay: int) -> None:
        mine = self.flushes
        self._later(delay, lambda: self.flush() if mine == self.flushes else None)

    def _linked(self, state: IovaState) -> list[tuple[int, int, int]]:
        links = self._links.get(state.addr)
        if links is None:
            raise InvariantError("dma", f"{state.addr:#x}+{state.nbytes}", "is not allocated", errno.EINVAL)
        return links

    def _bounce(self, phys: int, nbytes: int, attrs: Attrs) -> int:
        """Return a copy in whole pages, with zeros around, for a device that nobody trusts (IOVA-1)."""
        if attrs & Attrs.MMIO or self._swiotlb is None:
            why = "is not whole pages, and cannot be bounced for a device that nobody trusts (IOVA-1)"
            raise SyscallError("dma", f"{phys:#x}+{nbytes}", why, errno.EPERM)
        return self._swiotlb.map(phys, nbytes, self.dev, granule=PAGE_SIZE)

    def _drop(self, phys: int, nbytes: int) -> None:
        """Free the bounce at `phys`, if it is one."""
        if self._swiotlb is not None and self._swiotlb.owns(phys):
            self._swiotlb.unmap(phys, nbytes, _TO)
