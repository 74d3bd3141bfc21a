"""What an IO cost floor by floor, counted from its records alone: the meters, each in the room where it is earned."""

from collections import Counter
from collections.abc import Iterable

from labkit.trace.events import (
    AtaQcIssue,
    BlockBioBackmerge,
    BlockBioFrontmerge,
    BlockBioQueue,
    BlockGetrq,
    BlockRqIssue,
    BlockSplit,
    DeviceDma,
    DmaMap,
    DmaUnmap,
    GupPin,
    GupUnpin,
    IomapIterDstmap,
    IotlbFill,
    IotlbFlush,
    IovIterZero,
    NvmeSetupCmd,
    PmemSubmitBio,
    Record,
    VirtqueueAdd,
)

LAYERS: dict[str, tuple[str, ...]] = {
    "gup": ("calls", "ptes", "atomics", "struct_pages", "cache_lines", "faults"),
    "dio": ("descriptors", "descriptor_bytes", "conversions"),
    "fs": ("extents", "zeroed_bytes"),
    "block": ("bios", "vectors", "splits", "merges", "requests", "segments"),
    "dma": (
        "maps", "conversions", "struct_pages", "descriptor_bytes", "iotlb_syncs", "ioptes", "iotlb_hits",
        "iotlb_misses", "bounced_bytes",
    ),
    "driver": ("commands", "prps", "entries", "descriptor_bytes", "copied_bytes"),
    "device": ("transfers", "bytes"),
}  # fmt: skip
"""The floors of the descent, and what is counted on each. Below dio nobody should have to touch a struct page."""
BELOW_DIO = ("fs", "block", "dma", "driver", "device")


def layers(records: Iterable[Record]) -> dict[str, dict[str, int]]:
    """Return, for each of LAYERS, its meters; 0 where nothing was counted.

    `dio.descriptors` are the ranges or vectors that are made for the memory, `dio.conversions` pages that were folded
    into vectors, `dma.conversions` vectors turned into addresses; `driver.prps` are those of NVMe, or what its
    SGLs hold, `driver.entries` those of virtio's and AHCI's tables; sizes are bytes.
    """
    sums: Counter[tuple[str, str]] = Counter()
    for rec in records:
        for layer, name, value in _counts(rec):
            sums[layer, name] += value
    return {layer: {name: sums[layer, name] for name in names} for layer, names in LAYERS.items()}


def _counts(rec: Record) -> Iterable[tuple[str, str, int]]:  # noqa: PLR0911 - one answer for each record
    """Return (layer, meter, value) of what `rec` tells."""
    match rec:
        case GupPin():
            return _of_pin(rec)
        case GupUnpin():
            return ("gup", "atomics", rec.atomics), ("gup", "struct_pages", rec.struct_pages)
        case IomapIterDstmap():
            return (("fs", "extents", 1),)
        case IovIterZero():
            return (("fs", "zeroed_bytes", rec.nbytes),)
        case BlockBioQueue():
            return ("block", "bios", 1), ("block", "vectors", rec.vecs)
        case BlockSplit():
            return (("block", "splits", 1),)
        case BlockBioBackmerge() | BlockBioFrontmerge():
            return ("block", "merges", 1), ("block", "segments", rec.segments)
        case BlockGetrq():
            return (("block", "segments", rec.segments),)
        case BlockRqIssue():
            return (("block", "requests", 1),)
        case _:
            return _below(rec)


def _of_pin(rec: GupPin) -> Iterable[tuple[str, str, int]]:
    yield from (("gup", "calls", 1), ("gup", "ptes", rec.ptes), ("gup", "atomics", rec.atomics))
    yield from (("gup", "struct_pages", rec.struct_pages), ("gup", "cache_lines", rec.cache_lines))
    made = len(rec.ranges) if rec.ptes or rec.descriptor_bytes else 0  # what is registered has its list (DIO-7)
    yield from (("gup", "faults", rec.faults), ("dio", "descriptors", made))
    yield from (("dio", "descriptor_bytes", rec.descriptor_bytes), ("dio", "conversions", rec.struct_pages))


def _below(rec: Record) -> Iterable[tuple[str, str, int]]:
    """Return what driver, DMA and device tell."""
    match rec:
        case DmaMap() | DmaUnmap() | IotlbFlush() | IotlbFill():
            yield from (("dma", name, value) for name, value in _dma(rec).items())
        case NvmeSetupCmd():
            yield from (("driver", "commands", 1), ("driver", "prps", rec.prps))
            yield "driver", "descriptor_bytes", rec.descriptor_bytes
        case VirtqueueAdd() | AtaQcIssue():
            yield from (("driver", "commands", 1), ("driver", "entries", rec.entries))
            yield "driver", "descriptor_bytes", rec.descriptor_bytes
        case PmemSubmitBio():
            yield "driver", "copied_bytes", rec.len
        case DeviceDma():
            yield from (("device", "transfers", 1), ("device", "bytes", rec.len))


def _dma(rec: DmaMap | DmaUnmap | IotlbFlush | IotlbFill) -> dict[str, int]:
    match rec:
        case DmaMap():
            names = ("maps", "conversions", "struct_pages", "descriptor_bytes", "ioptes")
            return {name: getattr(rec, name) for name in names} | {"bounced_bytes": rec.bounced}
        case DmaUnmap():
            return {"iotlb_syncs": rec.syncs, "bounced_bytes": rec.bounced}
        case IotlbFlush():
            return {"iotlb_syncs": rec.syncs}
    return {"iotlb_hits": rec.hits, "iotlb_misses": rec.misses}
