"""What an IO cost floor by floor, counted from its records alone: the meters, each in the room where it is earned."""

from collections import Counter
from collections.abc import Iterable

from labkit.trace.events import (
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
    IotlbFlush,
    IovIterZero,
    NvmeSetupCmd,
    Record,
)

LAYERS: dict[str, tuple[str, ...]] = {
    "gup": ("calls", "ptes", "atomics", "struct_pages", "cache_lines", "faults"),
    "dio": ("descriptors", "descriptor_bytes", "conversions"),
    "fs": ("extents", "zeroed_bytes"),
    "block": ("bios", "vectors", "splits", "merges", "requests", "segments"),
    "dma": ("maps", "conversions", "struct_pages", "descriptor_bytes", "iotlb_syncs"),
    "driver": ("commands", "prps", "descriptor_bytes"),
    "device": ("transfers", "bytes"),
}
"""The floors of the descent, and what is counted on each. Below dio nobody should have to touch a struct page."""
BELOW_DIO = ("fs", "block", "dma", "driver", "device")


def layers(records: Iterable[Record]) -> dict[str, dict[str, int]]:
    """Return, for each of LAYERS, its meters; 0 where nothing was counted.

    `dio.descriptors` are the ranges or vectors that describe the memory, `dio.conversions` pages that were folded into
    vectors, `dma.conversions` vectors that were turned into addresses; sizes are bytes.
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
    yield from (("gup", "faults", rec.faults), ("dio", "descriptors", len(rec.ranges)))
    yield from (("dio", "descriptor_bytes", rec.descriptor_bytes), ("dio", "conversions", rec.struct_pages))


def _below(rec: Record) -> Iterable[tuple[str, str, int]]:
    """Return what driver, DMA and device tell."""
    match rec:
        case DmaMap():
            yield from (("dma", "maps", rec.maps), ("dma", "conversions", rec.conversions))
            yield from (("dma", "struct_pages", rec.struct_pages), ("dma", "descriptor_bytes", rec.descriptor_bytes))
        case DmaUnmap() | IotlbFlush():
            yield "dma", "iotlb_syncs", rec.syncs
        case NvmeSetupCmd():
            yield from (("driver", "commands", 1), ("driver", "prps", rec.prps))
            yield "driver", "descriptor_bytes", rec.descriptor_bytes
        case DeviceDma():
            yield from (("device", "transfers", 1), ("device", "bytes", rec.len))
