import pytest

from labkit.trace.events import (
    BlockGetrq,
    BlockRqComplete,
    DmaMap,
    DmaUnmap,
    DupMmap,
    FolioFlags,
    GupPin,
    GupUnpin,
    IotlbFlush,
    MemremapPages,
    MemunmapPages,
    Mmap,
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    MmMigratePages,
    MmPageAlloc,
    MmPageFree,
    Mprotect,
    Munmap,
    SetPtes,
    SplitHugePmd,
    SysEnter,
    ZapPtes,
)
from labkit.trace.page_flags import ANON
from labkit.trace.snapshot import DmaState, FolioState, PinState, Snapshot, translation_runs
from labkit.trace.state import state_at
from labkit.trace.translations import Run

VA = 0x7F00_0000_0000
BOTH = ((0x7000, 4096), (0x21000, 4096))
RANGE_PIN = GupPin(20, 1, 1, "range", VA, BOTH, 2, 2, 0, 32)
PAGE_PIN = GupPin(20, 1, 1, "page", VA, BOTH, 2, 2, 2, 64)
STORY = (
    Mmap(0, 0, VA, 8192, "rw-", "anon"),
    MmPageAlloc(10, 0, VA, 0, 1, BOTH),
    RANGE_PIN,
    BlockGetrq(30, 1, 1, 1, 0, 16, 16, 2),
    DmaMap(40, 1, 1, ((0xFF000, 8192),), BOTH, 2, 0, 0, 16),
    DmaUnmap(50, 1, 1, 0, stale=True),
    BlockRqComplete(60, 1, 1, 0, 16, 16, 0),
    GupUnpin(70, 1, 1, 2, 0),
    IotlbFlush(80, 0, 1),
    Munmap(90, 0, VA, 8192),
    MmPageFree(90, 0, 0, BOTH),
)
VMA = ((VA, 8192, "rw-", "anon", 0),)
PAGES = ((VA, 0x7000, 4096, 0), (VA + 4096, 0x21000, 4096, 0))


def folio(pfn, order=0, refcount=1, pincount=0, mapcount=1, flags=ANON):
    return FolioState(pfn, order, refcount, pincount, mapcount, flags)


FOLIOS = (folio(7), folio(33))
PIN = (PinState(1, 1, 20, "range", BOTH),)


@pytest.mark.parametrize(
    "snapshot",
    [
        Snapshot(t=0, vmas=VMA),
        Snapshot(t=9, vmas=VMA),
        Snapshot(t=10, vmas=VMA, pages=PAGES, folios=FOLIOS),
        Snapshot(t=20, vmas=VMA, pages=PAGES, folios=FOLIOS, pins=PIN),
        Snapshot(t=30, vmas=VMA, pages=PAGES, folios=FOLIOS, pins=PIN, tags=((0, 1),)),
        Snapshot(
            t=40, vmas=VMA, pages=PAGES, folios=FOLIOS, pins=PIN, tags=((0, 1),),
            dma=(DmaState(((0xFF000, 8192),), BOTH, live=True),),
        ),
        Snapshot(
            t=50, vmas=VMA, pages=PAGES, folios=FOLIOS, pins=PIN, tags=((0, 1),),
            dma=(DmaState(((0xFF000, 8192),), BOTH, live=False),),
        ),
        Snapshot(
            t=70, vmas=VMA, pages=PAGES, folios=FOLIOS, dma=(DmaState(((0xFF000, 8192),), BOTH, live=False),)
        ),
        Snapshot(t=80, vmas=VMA, pages=PAGES, folios=FOLIOS),
        Snapshot(t=90),
    ],
    ids=lambda snapshot: f"t={snapshot.t}",
)  # fmt: skip
def test_the_state_at_an_instant_is_what_the_records_up_to_it_say(snapshot):
    assert state_at(STORY, snapshot.t) == snapshot


def test_a_strict_unmap_leaves_nothing_behind():
    story = (DmaMap(40, 1, 1, ((0xFF000, 8192),), BOTH, 2, 0, 0, 16), DmaUnmap(50, 1, 1, 1, stale=False))
    assert state_at(story, 50) == Snapshot(t=50)


def test_a_flush_ends_stale_mappings_and_no_live_one():
    live = DmaMap(45, 2, 2, ((0xFE000, 4096),), ((0x9000, 4096),), 1, 0, 0, 16)
    story = (STORY[4], live, STORY[5], IotlbFlush(80, 0, 1))
    assert state_at(story, 80).dma == (DmaState(((0xFE000, 4096),), ((0x9000, 4096),), live=True),)


def test_the_page_policy_counts_on_the_page_the_range_policy_does_not():
    assert state_at((STORY[1], PAGE_PIN), 20).folios == (folio(7, refcount=1025), folio(33, refcount=1025))
    assert state_at((STORY[1], RANGE_PIN), 20).folios == FOLIOS
    assert state_at((STORY[1], PAGE_PIN, GupUnpin(30, 1, 1, 2, 2)), 30).folios == FOLIOS


def test_pages_of_a_large_folio_count_on_its_head():
    alloc = MmPageAlloc(10, 0, VA, 4, 16, ((0x10000, 65536),))
    pin = GupPin(20, 1, 1, "page", VA, ((0x13000, 8192),), 2, 2, 2, 64)
    assert state_at((alloc,), 10).folios == (folio(16, 4, 16, 0, 16),)
    assert state_at((alloc, pin), 20).folios == (folio(16, 4, 18, 2, 16),)


def test_a_pin_from_the_middle_of_a_page_counts_every_page_that_it_touches():
    alloc = MmPageAlloc(10, 0, VA, 0, 1, ((0x7000, 8192),))
    pin = GupPin(20, 1, 1, "page", VA, ((0x7E00, 1024),), 2, 2, 2, 64)
    assert [folio.refcount for folio in state_at((alloc, pin), 20).folios] == [1025, 1025]


def test_a_folio_unmapped_under_a_pin_stays_until_it_is_freed():
    story = (*STORY[:2], PAGE_PIN, Munmap(30, 0, VA, 8192), GupUnpin(40, 1, 1, 2, 2), MmPageFree(50, 0, 0, BOTH))
    assert state_at(story, 30).folios == (folio(7, 0, 1024, 0, 0), folio(33, 0, 1024, 0, 0))
    assert state_at(story, 40).folios == (folio(7, 0, 0, 0, 0), folio(33, 0, 0, 0, 0))
    assert state_at(story, 50).folios == ()


def test_who_holds_this_page():
    state = state_at((*STORY[:3], GupPin(25, 2, 2, "range", VA, ((0x7F00, 256),), 1, 1, 0, 16)), 25)
    assert [pin.io for pin in state.holders(7)] == [1, 2]
    assert [pin.io for pin in state.holders(33)] == [1]
    assert state.holders(8) == ()


def test_translations_are_joined_where_both_sides_go_on():
    pages = [(VA, 0x7000), (VA + 4096, 0x8000), (VA + 8192, 0x21000), (VA + 16384, 0x22000)]
    assert translation_runs((Run(va, pa, 4096, 0) for va, pa in pages), 3) == (
        (VA, 0x7000, 8192, 3), (VA + 8192, 0x21000, 4096, 3), (VA + 16384, 0x22000, 4096, 3),
    )  # fmt: skip


def test_records_that_draw_nothing_change_nothing():
    assert state_at((SysEnter(5, 1, "pread64", 3, VA, 4096, 0),), 5) == Snapshot(t=5)


FILE = 1 << 3
CACHED = MmFilemapAddToPageCache(5, 0, 0, 1, FILE, BOTH, "a file")


def test_pages_of_a_file_are_counted_by_the_file_and_by_each_entry():
    story = (CACHED, SetPtes(6, 0, VA, 0, BOTH, 1), SetPtes(7, 0, VA, 0, BOTH, 2))
    assert state_at(story, 5).folios == (folio(7, 0, 1, 0, 0, FILE), folio(33, 0, 1, 0, 0, FILE))
    assert state_at(story, 7).folios == (folio(7, 0, 3, 0, 2, FILE), folio(33, 0, 3, 0, 2, FILE))
    gone = (*story, MmFilemapDeleteFromPageCache(8, 0, 1, BOTH), ZapPtes(9, 0, VA + 4096, 4096, 1))
    assert state_at(gone, 9).folios == (folio(7, 0, 2, 0, 2, FILE), folio(33, 0, 1, 0, 1, FILE))
    assert state_at(gone, 9).pages == (
        (VA, 0x7000, 4096, 1), (VA, 0x7000, 4096, 2), (VA + 4096, 0x21000, 4096, 2),
    )  # fmt: skip


def test_fork_gives_the_child_all_and_a_copy_takes_the_place_of_a_page():
    story = (*STORY[:2], DupMmap(20, 0, 0, 1), MmPageAlloc(30, 0, VA, 0, 1, ((0x9000, 4096),), 1))
    assert state_at(story, 20).folios == (folio(7, refcount=2, mapcount=2), folio(33, refcount=2, mapcount=2))
    assert state_at(story, 20).vmas == (*VMA, (VA, 8192, "rw-", "anon", 1))
    assert state_at(story, 30).folios == (folio(7), folio(9), folio(33, refcount=2, mapcount=2))


def test_a_mapping_is_cut_by_munmap_and_by_mprotect():
    story = (STORY[0], Mprotect(1, 0, VA, 4096, "r--", 0), Munmap(2, 0, VA + 4096, 4096, 0))
    assert state_at(story, 1).vmas == ((VA, 4096, "r--", "anon", 0), (VA + 4096, 4096, "rw-", "anon", 0))
    assert state_at(story, 2).vmas == ((VA, 4096, "r--", "anon", 0),)


def test_a_huge_page_counts_once_until_it_is_split():
    alloc = MmPageAlloc(1, 0, VA, 9, 1, ((0x400000, 2 << 20),))
    assert state_at((alloc,), 1).folios == (folio(1024, 9),)
    story = (alloc, SplitHugePmd(2, 0, VA, 9), ZapPtes(3, 0, VA, 4096))
    assert state_at(story, 2).folios == (folio(1024, 9, 512, 0, 512),)
    assert state_at(story, 3).folios == (folio(1024, 9, 511, 0, 511),)


def test_a_folio_that_moves_takes_its_counts_and_its_translations_along():
    story = (*STORY[:2], PAGE_PIN, MmMigratePages(30, 0, 0, ((0x7000, 4096),), ((0xB000, 4096),)))
    assert state_at(story, 30).folios == (folio(11, refcount=1025), folio(33, refcount=1025))
    assert state_at(story, 30).pages == ((VA, 0xB000, 4096, 0), (VA + 4096, 0x21000, 4096, 0))


def test_a_folio_gains_and_loses_flags():
    story = (STORY[1], FolioFlags(20, 0, ((0x7000, 4096),), 1 << 4, 1 << 34))
    assert state_at(story, 20).folios == (folio(7, flags=(1 << 3) | (1 << 4) | (1 << 12)), folio(33))


def test_memory_of_a_device_has_folios_only_if_it_has_struct_pages():
    with_pages = MemremapPages(1, 0, "p2pmem", 0x100000000, 8192, 1, 0, 2)
    without = MemremapPages(1, 0, "gpu", 0x200000000, 8192, 0, 0, 0)
    assert state_at((with_pages, without), 1).folios == (
        folio(1 << 20, flags=0, mapcount=0),
        folio((1 << 20) + 1, flags=0, mapcount=0),
    )
    assert state_at((with_pages, MemunmapPages(2, 0, "p2pmem", 0x100000000, 8192)), 2).folios == ()


def test_one_count_a_folio_is_what_the_folio_policy_keeps():
    alloc = MmPageAlloc(10, 0, VA, 4, 16, ((0x10000, 65536),))
    pin = GupPin(20, 1, 1, "folio", VA, ((0x13000, 8192),), 2, 1, 1, 64)
    assert state_at((alloc, pin), 20).folios == (folio(16, 4, 17, 1, 16),)
    assert state_at((alloc, pin, GupUnpin(30, 1, 1, 1, 1)), 30).folios == (folio(16, 4, 16, 0, 16),)
