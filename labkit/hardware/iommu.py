"""The translating bus: device addresses become physical ones, a 4 KiB page at a time, through an IOTLB."""

from collections.abc import Sequence

from labkit.hardware.device import Bus, BusFault
from labkit.scatter.payload import Range
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_LOW = PAGE_SIZE - 1


class Iommu:
    """One domain: its page table, and what the IOTLB remembers of it.

    An unmapped page stays reachable while the IOTLB remembers it: that is the window of lazy mode (IOVA-7).
    """

    def __init__(self, bus: Bus) -> None:
        """Translate for devices that reach memory through `bus`, which takes physical addresses."""
        self._bus = bus
        self.ioptes: dict[int, int] = {}
        self.iotlb: dict[int, int] = {}
        self.hits = self.misses = 0

    def map(self, iova: int, phys: int, nbytes: int) -> None:
        """Let `nbytes` at `iova` lead to `phys`; both begin equally deep in their page."""
        frame = phys >> PAGE_SHIFT
        for page in range(iova >> PAGE_SHIFT, (iova + nbytes + _LOW) >> PAGE_SHIFT):
            self.ioptes[page] = frame
            frame += 1

    def unmap(self, iova: int, nbytes: int) -> None:
        """Take the entries of `nbytes` at `iova` out; the IOTLB is not told."""
        for page in range(iova >> PAGE_SHIFT, (iova + nbytes + _LOW) >> PAGE_SHIFT):
            del self.ioptes[page]

    def invalidate(self, iova: int, nbytes: int) -> None:
        """Let the IOTLB forget `nbytes` at `iova`."""
        for page in range(iova >> PAGE_SHIFT, (iova + nbytes + _LOW) >> PAGE_SHIFT):
            self.iotlb.pop(page, None)

    def invalidate_all(self) -> None:
        """Let the IOTLB forget everything."""
        self.iotlb.clear()

    def translate(self, page: int) -> int:
        """Return the frame that device page `page` leads to. Raises BusFault where it leads nowhere."""
        frame = self.iotlb.get(page)
        if frame is not None:
            self.hits += 1
            return frame
        self.misses += 1
        frame = self.ioptes.get(page)
        if frame is None:
            raise BusFault(page << PAGE_SHIFT)
        self.iotlb[page] = frame
        return frame

    def views(self, addr: int, nbytes: int) -> Sequence[memoryview]:
        """Return views of the memory that `nbytes` at device address `addr` lead to; neighbours are one view."""
        page, offset = addr >> PAGE_SHIFT, addr & _LOW
        if offset + nbytes <= PAGE_SIZE:
            return self._bus.views((self.translate(page) << PAGE_SHIFT) + offset, nbytes)
        return [view for pa, length in self._runs(addr, nbytes) for view in self._bus.views(pa, length)]

    def _runs(self, addr: int, nbytes: int) -> list[Range]:
        runs: list[Range] = []
        while nbytes:
            take = min(nbytes, PAGE_SIZE - (addr & _LOW))
            pa = (self.translate(addr >> PAGE_SHIFT) << PAGE_SHIFT) + (addr & _LOW)
            if runs and sum(runs[-1]) == pa:
                runs[-1] = (runs[-1][0], runs[-1][1] + take)
            else:
                runs.append((pa, take))
            addr, nbytes = addr + take, nbytes - take
        return runs
