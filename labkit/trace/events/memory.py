"""Memory: mappings, entries, folios come, change and go."""

from typing import NamedTuple

from labkit.scatter.payload import Ranges


class Mmap(NamedTuple):
    """A mapping appears in the address space `mm`. The name is the syscall's; `kind` is what is behind it."""

    t: int
    io: int
    addr: int
    len: int
    prot: str
    name: str
    mm: int = 0
    kind: str = "anon"


class Munmap(NamedTuple):
    """A mapping, or a part of it, goes, and its translations with it. The name is the syscall's."""

    t: int
    io: int
    addr: int
    len: int
    mm: int = 0


class Mprotect(NamedTuple):
    """A mapping, or a part of it, gets other rights. The name is the syscall's."""

    t: int
    io: int
    addr: int
    len: int
    prot: str
    mm: int = 0


class DupMmap(NamedTuple):
    """fork: address space `child` gets all that `mm` has, page by page the same. No tracepoint; the function's name."""

    t: int
    io: int
    mm: int
    child: int


class MmPageAlloc(NamedTuple):
    """Folios of 2**`order` pages are allocated and mapped from `addr` on, in the order of `ranges` (physical).

    The kernel traces each folio; one record tells of all that one fault, or one populate, brought. `refs`: references
    that the mapping holds on each folio (one for each entry that maps it). What was mapped there before no longer is.
    """

    t: int
    io: int
    addr: int
    order: int
    refs: int
    ranges: Ranges
    mm: int = 0


class MmPageFree(NamedTuple):
    """Folios of 2**`order` pages go back to the buddy allocator."""

    t: int
    io: int
    order: int
    ranges: Ranges


class SetPtes(NamedTuple):
    """Memory that is there already is mapped from `addr` on: pages of a file, of a device, the zero page.

    `leaf`: the order of an entry, 0 for a PTE, 9 for a PMD, 18 for a PUD. What was mapped there before no longer is.
    """

    t: int
    io: int
    addr: int
    leaf: int
    ranges: Ranges
    mm: int = 0


class ZapPtes(NamedTuple):
    """What is mapped in [addr, addr + len) is so no longer; the mapping stays (zap_pte_range)."""

    t: int
    io: int
    addr: int
    len: int
    mm: int = 0


class SplitHugePmd(NamedTuple):
    """The leaf entry of 2**`order` pages at `addr` becomes PTEs (__split_huge_pmd)."""

    t: int
    io: int
    addr: int
    order: int
    mm: int = 0


class MmFilemapAddToPageCache(NamedTuple):
    """Folios of 2**`order` pages become pages of a file: `refs` references each, and `flags` (page_flags.py)."""

    t: int
    io: int
    order: int
    refs: int
    flags: int
    ranges: Ranges
    name: str


class MmFilemapDeleteFromPageCache(NamedTuple):
    """Folios are no pages of their file any more, and lose the `refs` references of it each."""

    t: int
    io: int
    refs: int
    ranges: Ranges


class MemremapPages(NamedTuple):
    """A device's memory at `start` gets struct pages, or (`frames` 0) is registered without them.

    `refs`: references that each page has from then on. The function: memremap_pages.
    """

    t: int
    io: int
    name: str
    start: int
    len: int
    refs: int
    flags: int
    frames: int


class MemunmapPages(NamedTuple):
    """A device's memory at `start` goes: unplugged, or revoked by its owner. The function: memunmap_pages."""

    t: int
    io: int
    name: str
    start: int
    len: int


class MmMigratePages(NamedTuple):
    """Folios of 2**`order` pages move from `src` to `dst` (physical), with all that counts on them."""

    t: int
    io: int
    order: int
    src: Ranges
    dst: Ranges


class FolioFlags(NamedTuple):
    """The folios in `ranges` gain the flags `put` and lose the flags `take` (page_flags.py). Ours."""

    t: int
    io: int
    ranges: Ranges
    put: int
    take: int
