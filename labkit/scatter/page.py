"""The handle of today: a struct page stands for one frame of 4096 bytes, wherever that frame goes."""

from typing import NamedTuple

from labkit.units import PFN_PHYS, Pfn, PhysAddr

STRUCT_PAGE_BYTES = 64
"""sizeof(struct page) on x86-64, Linux 6.18 (BTF): 1.5625 % of memory (MM-1)."""


class Page(NamedTuple):
    """A handle of frame `pfn`; the kernel's is a pointer into the memmap."""

    pfn: Pfn


def page_to_phys(page: Page) -> PhysAddr:
    """Return the physical address of the frame behind `page`."""
    return PFN_PHYS(page.pfn)
