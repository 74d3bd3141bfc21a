"""The handle of today: a struct page stands for one frame of 4096 bytes, wherever that frame goes."""

from typing import NamedTuple

from labkit.units import PFN_PHYS, Pfn, PhysAddr

STRUCT_PAGE_BYTES = 64
"""sizeof(struct page), Linux 6.18 (BTF): what the memmap costs for each frame that has one (MM-1)."""


class Page(NamedTuple):
    """A handle of frame `pfn`; the kernel's is a pointer into the memmap."""

    pfn: Pfn


def page_to_phys(page: Page) -> PhysAddr:
    """Return the physical address of the frame behind `page`."""
    return PFN_PHYS(page.pfn)
