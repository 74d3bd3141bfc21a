"""Where the entries of a scatterlist stand in one range of device addresses, and which the device sees as one."""

from collections.abc import Sequence

from labkit.kernel.dma.ops import DmaDevice
from labkit.scatter.payload import Range
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_LOW = PAGE_SIZE - 1


def places_of(sg: Sequence[Range], boundary: int) -> tuple[list[int], int]:
    """Return where each entry begins, in bytes from the start of the range, and how many pages the range has.

    Each takes whole pages; one that would cross a multiple of `boundary` + 1 begins there (IOVA-5).
    """
    places, at = [], 0
    for phys, nbytes in sg:
        size = (phys & _LOW) + nbytes + _LOW & ~_LOW
        pad = (boundary - at + 1) & boundary
        if pad and pad < size - 1:
            at += pad
        places.append(at + (phys & _LOW))
        at += size
    return places, at >> PAGE_SHIFT


def whole_pages(places: Sequence[int], sg: Sequence[Range]) -> list[tuple[int, int, int]]:
    """Return (place, physical address, bytes) of the pages of `sg`, joined where both sides go on.

    So entries that were cut for the device alone share a larger leaf (iommu_map_sg, IOVA-6).
    """
    out: list[tuple[int, int, int]] = []
    for place, (phys, nbytes) in zip(places, sg, strict=True):
        at, page, size = place & ~_LOW, phys & ~_LOW, (phys & _LOW) + nbytes + _LOW & ~_LOW
        if out and (out[-1][0] + out[-1][2], out[-1][1] + out[-1][2]) == (at, page):
            at, page, before = out.pop()
            size += before
        out.append((at, page, size))
    return out


def concatenated(parts: Sequence[Range], dev: DmaDevice) -> tuple[Range, ...]:
    """Return `parts`, device ranges, joined as IOVA-5 has it: where one ends with a page and the next begins with one.

    Never at a boundary of the device, nor beyond its longest segment.
    """
    out: list[Range] = []
    for addr, nbytes in parts:
        whole = bool(out) and sum(out[-1]) == addr and not addr & _LOW and addr & dev.seg_boundary_mask
        if whole and out[-1][1] + nbytes <= dev.max_segment_size:
            out[-1] = (out[-1][0], out[-1][1] + nbytes)
        else:
            out.append((addr, nbytes))
    return tuple(out)
