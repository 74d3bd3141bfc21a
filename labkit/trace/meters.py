"""What an IO cost, counted from its records alone, so that the meters of any instant are a sum over a prefix."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from labkit.scatter.range_array import RangeArray
from labkit.trace.events import (
    AtaQcIssue,
    DmaMap,
    DmaUnmap,
    GupPin,
    GupUnpin,
    IotlbFill,
    IotlbFlush,
    NvmeSetupCmd,
    Ranges,
    Record,
    VirtqueueAdd,
)


@dataclass(slots=True)
class Meters:
    """Sums over records. A descriptor is memory that describes memory: a phyr, a bio_vec, a mapping, a PRP list."""

    descriptor_bytes: int = 0
    pin_atomics: int = 0
    struct_pages_touched: int = 0
    conversions: int = 0
    """Elements copied from one scatter-gather type into another between the pin and the DMA mapping."""
    dma_maps: int = 0
    iotlb_syncs: int = 0
    ioptes: int = 0
    """IOMMU page table entries written."""
    iotlb_hits: int = 0
    iotlb_misses: int = 0
    bounced_bytes: int = 0
    """Bytes copied into bounce buffers, and out of them again."""

    def add(self, rec: Record) -> None:
        """Add what `rec` says."""
        match rec:
            case GupPin():
                self.descriptor_bytes += rec.descriptor_bytes
                self.pin_atomics += rec.atomics
                self.struct_pages_touched += rec.struct_pages
                self.conversions += rec.struct_pages  # each page that was found is folded into a bio_vec
            case GupUnpin():
                self.pin_atomics += rec.atomics
                self.struct_pages_touched += rec.struct_pages
            case DmaMap():
                self.descriptor_bytes += rec.descriptor_bytes
                self.struct_pages_touched += rec.struct_pages
                self.conversions += rec.conversions
                self.dma_maps += rec.maps
                self.ioptes += rec.ioptes
                self.bounced_bytes += rec.bounced
            case NvmeSetupCmd() | VirtqueueAdd() | AtaQcIssue():
                self.descriptor_bytes += rec.descriptor_bytes
            case _:
                self._undo(rec)

    def _undo(self, rec: Record) -> None:
        """Add what the IOMMU tells, and what the unmap took."""
        match rec:
            case DmaUnmap():
                self.iotlb_syncs += rec.syncs
                self.bounced_bytes += rec.bounced
            case IotlbFlush():
                self.iotlb_syncs += rec.syncs
            case IotlbFill():
                self.iotlb_hits += rec.hits
                self.iotlb_misses += rec.misses

    def as_dict(self) -> dict[str, int]:
        """Return the sums by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Pins:
    """How many 4 KiB frames were pinned and let go of, and how many are held still."""

    taken: int
    released: int

    @property
    def held(self) -> int:
        """Frames pinned and not released."""
        return self.taken - self.released


def meters(records: Iterable[Record]) -> Meters:
    """Return the sums over `records`."""
    total = Meters()
    for rec in records:
        total.add(rec)
    return total


def pins(records: Iterable[Record]) -> Pins:
    """Return how many frames the pins of `records` hold, as nr_foll_pin_acquired counts pages (MM-17).

    A pin that took no locked operation holds none: one of the zero page (MM-15), of memory that is registered or the
    kernel's own (ITER-2), of policy none; taken and released come out even all the same. Where the zero page is a part
    of what is pinned, records do not tell it from the rest, and it counts with it.
    """
    frames: dict[int, int] = {}
    taken = released = 0
    for rec in records:
        if isinstance(rec, GupPin):
            frames[rec.token] = _frames(rec.ranges) if rec.atomics else 0
            taken += frames[rec.token]
        elif isinstance(rec, GupUnpin):
            released += frames.pop(rec.token)
    return Pins(taken, released)


def _frames(ranges: Ranges) -> int:
    """Return how many 4 KiB frames `ranges` touch, range by range."""
    if isinstance(ranges, RangeArray):
        return int((((ranges.addrs + ranges.lens + 4095) >> 12) - (ranges.addrs >> 12)).sum())
    return sum(((a + n + 4095) >> 12) - (a >> 12) for a, n in ranges)
