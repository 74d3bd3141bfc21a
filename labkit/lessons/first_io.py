"""The questions of notebook 01."""

from labkit.lessons.quiz import Question
from labkit.trace.events import DmaMap, GupPin
from labkit.trace.trace import Trace


def _phyrs(trace: Trace) -> int:
    return sum(len(pin.ranges) for pin in trace.of(GupPin))


def _dma_ranges(trace: Trace) -> int:
    return sum(len(rec.dma) for rec in trace.of(DmaMap))


PHYRS = Question(
    "Sixteen pages of user memory: how many physical ranges?",
    _phyrs,
    "On an aged machine neighbours in virtual memory need not be neighbours in physical memory, and no two are here.",
)
DMA = Question(
    "And how many ranges does the device see?",
    _dma_ranges,
    "The IOMMU gives the whole request one range of device addresses (BLKDMA-3).",
)
