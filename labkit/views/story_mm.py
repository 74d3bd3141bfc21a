"""Records of memory become sentences: mappings that change, folios that come, move and go, and what went wrong."""

from collections.abc import Callable
from typing import Any

from labkit.scatter.page import STRUCT_PAGE_BYTES
from labkit.trace.events import (
    CopyFolio,
    DupMmap,
    FolioEndIo,
    FolioFlags,
    Hazard,
    MemremapPages,
    MemunmapPages,
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    MmMigratePages,
    Mprotect,
    PageCacheRaOrder,
    Ranges,
    SetPtes,
    SplitHugePmd,
    Violation,
    ZapPtes,
)
from labkit.trace.page_flags import FLAG_NAMES
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PMD_ORDER, PUD_ORDER, human_bytes
from labkit.views.words import address, capital, count

_SETTER = {0: "set_ptes", PMD_ORDER: "set_pmd_at", PUD_ORDER: "set_pud_at"}


def flags(bits: int) -> str:
    """Return the names of the flags in `bits`, 'no flag' for none; a bit without a name is 'bit 5'."""
    names = [FLAG_NAMES.get(1 << bit, f"bit {bit}") for bit in range(bits.bit_length()) if bits >> bit & 1]
    return ", ".join(names) or "no flag"


def _total(ranges: Ranges) -> int:
    return sum(nbytes for _, nbytes in ranges)


def _folios(ranges: Ranges, order: int) -> str:
    each = human_bytes(PAGE_SIZE << order)
    return capital(count(_total(ranges) // (PAGE_SIZE << order), f"folio of {each}", f"folios of {each}"))


def _start(ranges: Ranges) -> str:
    return address(ranges[0][0]) if len(ranges) else "nowhere"


def _mprotect(rec: Mprotect) -> str:
    return f"The task changes the rights of {human_bytes(rec.len)} at {address(rec.addr)} to {rec.prot}."


def _dup(rec: DupMmap) -> str:
    return f"The task forks: address space {rec.child} maps what address space {rec.mm} does, page by page the same."


def _set(rec: SetPtes) -> str:
    total = _total(rec.ranges)
    entries = count(total // (PAGE_SIZE << rec.leaf), "entry", "entries")
    where = f"{address(rec.addr)}: {count(len(rec.ranges), 'physical range')}"
    return f"{human_bytes(total)} that are there already are mapped by {entries} at {where}."


def _zap(rec: ZapPtes) -> str:
    return f"{human_bytes(rec.len)} at {address(rec.addr)} are translated no longer; the mapping itself stays."


def _split(rec: SplitHugePmd) -> str:
    each = human_bytes(PAGE_SIZE << rec.order)
    return f"The entry of {each} at {address(rec.addr)} becomes {1 << rec.order:,} page table entries."


def _cached(rec: MmFilemapAddToPageCache) -> str:
    what = _folios(rec.ranges, rec.order)
    verb = "becomes a part" if what.startswith("One ") else "become parts"
    return f"{what} {verb} of the page cache of {rec.name}, from {_start(rec.ranges)} on."


def _uncached(rec: MmFilemapDeleteFromPageCache) -> str:
    return f"{human_bytes(_total(rec.ranges))} of a file leave the page cache, which drops its references."


def _ahead(rec: PageCacheRaOrder) -> str:
    what = f"{human_bytes(rec.size << PAGE_SHIFT)} of the file from page {rec.start} on are read ahead"
    mark = f"; who comes to page {rec.mark} asks for the next" if rec.mark >= 0 else ""
    return f"{what}, in folios of {human_bytes(PAGE_SIZE << rec.order)} at most{mark}."


def _copied(rec: CopyFolio) -> str:
    way = "from the user into the page cache" if rec.write else "from the page cache to the user"
    return f"{human_bytes(rec.nbytes)} at byte {rec.pos:,} of the file are copied {way}."


def _ended(rec: FolioEndIo) -> str:
    what = f"The bio finds its {count(rec.folios, 'folio')} again by {count(rec.lookups, 'lookup')}"
    steps = f" and {count(rec.steps, 'step')} from one to the next" if rec.steps else ""
    return f"{what}{steps}: they are {'written back' if rec.write else 'read'}."


def _remap(rec: MemremapPages) -> str:
    what = f"{human_bytes(rec.len)} of {rec.name} at {address(rec.start)}"
    if not rec.frames:
        return f"{what} are registered without any struct page."
    return f"{what} get {count(rec.frames, 'struct page')}, {human_bytes(rec.frames * STRUCT_PAGE_BYTES)} of RAM."


def _unmap(rec: MemunmapPages) -> str:
    return f"{human_bytes(rec.len)} of {rec.name} at {address(rec.start)} are gone, with all that described them."


def _migrate(rec: MmMigratePages) -> str:
    what = _folios(rec.src, rec.order)
    verb = "moves" if what.startswith("One ") else "move"
    return f"{what} {verb} from {_start(rec.src)} to {_start(rec.dst)}, and what counts on it goes along."


def _flags(rec: FolioFlags) -> str:
    parts = [f"{verb} {flags(bits)}" for verb, bits in (("gains", rec.put), ("loses", rec.take)) if bits]
    pages = _total(rec.ranges) >> PAGE_SHIFT
    where = f"The memory at {_start(rec.ranges)}, {count(pages, 'page')},"
    return f"{where} {' and '.join(parts) or 'keeps its flags'}."


def _hazard(rec: Hazard) -> str:
    return f"Somebody gets in the way ({rec.name}): {rec.text.rstrip('.')}."


def _violation(rec: Violation) -> str:
    text = f"The invariant {rec.name} is broken: {rec.text.rstrip('.')}"
    if not rec.expected and not rec.found:
        return f"{text}."
    return f"{text}; at {address(rec.addr)} the bytes should be {rec.expected} and are {rec.found}."


TELL_MM: dict[type, tuple[str, str | Callable[[Any], str], Callable[[Any], str]]] = {
    Mprotect: ("task", "do_mprotect_pkey", _mprotect),
    DupMmap: ("task", "dup_mmap", _dup),
    SetPtes: ("memory", lambda rec: _SETTER.get(rec.leaf, "set_ptes"), _set),
    ZapPtes: ("memory", "zap_pte_range", _zap),
    SplitHugePmd: ("memory", "__split_huge_pmd", _split),
    MmFilemapAddToPageCache: ("page cache", "__filemap_add_folio", _cached),
    MmFilemapDeleteFromPageCache: ("page cache", "__filemap_remove_folio", _uncached),
    PageCacheRaOrder: ("page cache", "page_cache_ra_order", _ahead),
    CopyFolio: ("page cache", lambda rec: f"copy_folio_{'from' if rec.write else 'to'}_iter", _copied),
    FolioEndIo: ("page cache", lambda rec: "folio_end_writeback" if rec.write else "folio_end_read", _ended),
    MemremapPages: ("memory", lambda rec: "memremap_pages" if rec.frames else "request_mem_region", _remap),
    MemunmapPages: ("memory", "memunmap_pages", _unmap),
    MmMigratePages: ("memory", "migrate_pages", _migrate),
    FolioFlags: ("memory", "", _flags),
    Hazard: ("hazard", "", _hazard),
    Violation: ("invariant", "", _violation),
}
"""For each record type of memory: the layer, the kernel's function, and the sentence."""
OURS = (FolioFlags, Hazard, Violation)
"""Records that are this lab's own: the kernel has none like them."""
