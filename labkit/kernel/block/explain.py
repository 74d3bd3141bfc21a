"""The limits of a queue become sentences, for a reader who looks at the ones of their own machine."""

from collections.abc import Callable
from typing import NamedTuple

from labkit.kernel.block.limits import MAX_SEGMENT_SIZE, QueueLimits
from labkit.units import SECTOR_SIZE, human_bytes

_ENDLESS = (1 << 32) - 2
"""Sectors from which on a driver has set no limit: sysfs tells in KiB what 32 bits can count."""


class Told(NamedTuple):
    """One limit: its name, its value as text, what follows from it, and the rule."""

    name: str
    value: str
    sentence: str
    rule: str


_Tell = Callable[[QueueLimits], tuple[str, str]]


def explain(limits: QueueLimits) -> list[Told]:
    """Return every limit of a queue with what it means for an IO, in the order in which a bio meets them."""
    return [Told(name, *tell(limits), rule) for name, rule, tell in _TABLE]


def _sectors(count: int) -> str:
    return f"{count} sectors, {human_bytes(count * SECTOR_SIZE)}"


def _logical(limits: QueueLimits) -> tuple[str, str]:
    size = human_bytes(limits.logical_block_size)
    return size, f"Position and length of a direct IO are multiples of {size}."


def _physical(limits: QueueLimits) -> tuple[str, str]:
    size, more = human_bytes(limits.physical_block_size), limits.physical_block_size > limits.logical_block_size
    text = "a smaller write makes the device read first" if more else "as large as a logical one"
    return size, f"The device writes {size} at a time: {text}."


def _align(limits: QueueLimits) -> tuple[str, str]:
    return f"{limits.dma_alignment:#x}", f"Memory begins at a multiple of {human_bytes(limits.dma_alignment + 1)}."


def _hardware(limits: QueueLimits) -> tuple[str, str]:
    if limits.max_hw_sectors >= _ENDLESS:
        return "unlimited", "The driver has set no limit for one command."
    return _sectors(limits.max_hw_sectors), "One command moves no more, whoever asks."


def _most(limits: QueueLimits) -> tuple[str, str]:
    less = "less than the hardware takes" if limits.max_sectors < limits.max_hw_sectors else "all the hardware takes"
    return _sectors(limits.max_sectors), f"A larger bio is split; this is {less}."


def _segments(limits: QueueLimits) -> tuple[str, str]:
    pages = human_bytes(limits.max_segments << 12)
    return str(limits.max_segments), f"Of single pages that do not touch, a request holds {pages} at most."


def _segment(limits: QueueLimits) -> tuple[str, str]:
    if limits.max_segment_size >= MAX_SEGMENT_SIZE:
        return "unlimited", "Memory that is contiguous is one segment, however long."
    size = human_bytes(limits.max_segment_size)
    return size, f"Memory that is contiguous is cut every {size}."


def _virt(limits: QueueLimits) -> tuple[str, str]:
    if not limits.virt_boundary_mask:
        return "0", "Pieces of memory may begin and end anywhere."
    size = human_bytes(limits.virt_boundary_mask + 1)
    return f"{limits.virt_boundary_mask:#x}", f"A joint that is not at a multiple of {size} splits the bio."


def _boundary(limits: QueueLimits) -> tuple[str, str]:
    size = human_bytes(limits.seg_boundary_mask + 1)
    return f"{limits.seg_boundary_mask:#x}", f"No segment crosses a multiple of {size} in memory."


def _chunk(limits: QueueLimits) -> tuple[str, str]:
    if not limits.chunk_sectors:
        return "0", "Requests may lie anywhere on the device."
    return _sectors(limits.chunk_sectors), "No request crosses a multiple of this on the device."


def _merges(limits: QueueLimits) -> tuple[str, str]:
    texts = ("A bio may join a request that waits.", "Only the last request is looked at.", "No bio joins another.")
    return str(limits.nomerges), texts[limits.nomerges]


def _tags(limits: QueueLimits) -> tuple[str, str]:
    return str(limits.nr_requests), f"With {limits.nr_requests} requests on their way the next one waits for a tag."


def _cache(limits: QueueLimits) -> tuple[str, str]:
    if not limits.write_cache:
        return "write through", "What is written is safe when the write ends."
    how = "a write with FUA is safe" if limits.fua else "nothing is safe before a flush"
    return "write back", f"What is written may be lost with the power: {how}."


def _atomic(limits: QueueLimits) -> tuple[str, str]:
    if not limits.atomic_write_unit_max:
        return "0", "The device promises of no write that it is all there or not at all."
    low, high = human_bytes(limits.atomic_write_unit_min), human_bytes(limits.atomic_write_unit_max)
    return high, f"A write of {low} to {high}, a power of two and aligned to itself, is all there or not at all."


_TABLE: tuple[tuple[str, str, _Tell], ...] = (
    ("logical_block_size", "LIM-1", _logical),
    ("physical_block_size", "LIM-1", _physical),
    ("dma_alignment", "LIM-4", _align),
    ("max_hw_sectors", "LIM-2", _hardware),
    ("max_sectors", "LIM-2", _most),
    ("max_segments", "LIM-3", _segments),
    ("max_segment_size", "LIM-3", _segment),
    ("virt_boundary_mask", "SPLIT-3", _virt),
    ("seg_boundary_mask", "LIM-3", _boundary),
    ("chunk_sectors", "SPLIT-2", _chunk),
    ("nomerges", "R14", _merges),
    ("nr_requests", "MQ-2", _tags),
    ("write_cache", "LIM-4", _cache),
    ("atomic_write_unit_max", "SPLIT-2", _atomic),
)
