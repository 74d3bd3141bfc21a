"""Frames behind a buffer: which folio each is of, and what was there before the call."""

import pytest

from labkit.trace.events import MemremapPages, Mmap, MmFilemapAddToPageCache, MmPageAlloc, SetPtes, ZapPtes
from labkit.trace.page_flags import ANON, PG_dirty
from labkit.trace.state import state_at
from labkit.witness.capture import Capture
from labkit.witness.replay import land

VA, THP = 0x7F00_0020_0000, 512
ANON_BIT, SWAPBACKED, HUGE, DIRTY = 12, 14, 17, 4


@pytest.fixture
def before(captured):
    """Records of memory for a layout, before a read of one page."""

    def of(rows, folios=(), after=None, **more):
        layout = {"before": rows, "large_folios": folios, "after": after}
        return list(land.before(Capture.of(captured("01") | {"layout": layout} | more)))

    return of


def test_small_pages_that_follow_each_other_are_one_record(before):
    assert before([[VA, 100, 2], [VA + 8192, 50, 1]]) == [
        Mmap(0, 0, VA, 12288, "rw-", "buffer"),
        MmPageAlloc(0, 0, VA, 0, 1, ((100 << 12, 8192), (50 << 12, 4096))),
    ]


def test_a_whole_folio_of_2_mib_is_mapped_by_one_entry(before):
    _, folio = before([[VA, THP, THP]], [[THP, THP, [ANON_BIT, SWAPBACKED]]])
    assert folio == MmPageAlloc(0, 0, VA, 9, 1, ((THP << 12, 2 << 20),))


def test_of_a_folio_that_pagemap_saw_in_part_the_rest_is_not_mapped(before):
    records = before([[VA + 8192, THP + 2, 4]], [[THP, THP, [ANON_BIT]]])
    assert [type(rec) for rec in records] == [Mmap, MmPageAlloc, ZapPtes, ZapPtes]
    state = state_at(tuple(records), 0)
    assert state.pages == ((VA + 8192, THP + 2 << 12, 16384, 0),)
    assert [(folio.pfn, folio.order, folio.mapcount, folio.flags) for folio in state.folios] == [(THP, 9, 4, ANON)]


@pytest.mark.parametrize(
    ("flags", "name"),
    [([SWAPBACKED, DIRTY], "shared memory"), ([HUGE, DIRTY], "hugetlb"), (["SWAPBACKED", "DIRTY"], "shared memory")],
)
def test_pages_of_shared_memory_are_only_mapped(before, flags, name):
    _, cached, mapped, again = before([[VA, THP + 7, 1], [VA + 8192, THP, 1]], [[THP, THP, flags]])
    assert (type(cached), cached.name, cached.order, cached.refs) == (MmFilemapAddToPageCache, name, 9, THP)
    assert cached.flags & PG_dirty
    assert mapped == SetPtes(0, 0, VA, 0, ((THP + 7 << 12, 4096),))
    assert again.addr == VA + 8192


def test_a_frame_behind_many_pages_is_mapped_many_times_and_comes_once(before):
    _, mapped = before([[VA, 77, 1], [VA + 4096, 77, 1]])
    assert mapped == SetPtes(0, 0, VA, 0, ((77 << 12, 4096), (77 << 12, 4096)))


def test_memory_of_a_device_has_its_own_record(captured):
    capture = Capture.of(captured("605"))
    _, bar, mapped, *none = land.before(capture)
    assert bar == MemremapPages(0, 0, "peer", 1016080 << 12, 65536, 1, 8, 16)
    assert (type(mapped), none) == (SetPtes, [])
    assert land.memory(capture).zones[-1] == ("DMA32", 4096, 3 << 18)


def test_pages_far_apart_are_two_mappings_and_so_are_those_with_none_between(before):
    far = [rec.addr for rec in before([[VA, 1, 1], [VA + (1 << 20), 5, 1]]) if isinstance(rec, Mmap)]
    assert far == [VA, VA + (1 << 20)]
    near = [(rec.addr, rec.len) for rec in before([[VA, 1, 1], [VA + 8192, 5, 1]]) if isinstance(rec, Mmap)]
    assert near == [(VA, 12288)]
    hole = [rec.addr for rec in before([[VA, 1, 1], [VA + 4096, -1, 1], [VA + 8192, 5, 1]]) if isinstance(rec, Mmap)]
    assert hole == [VA, VA + 8192]


def test_pages_that_came_meanwhile_come_with_the_first_bio(captured):
    row = captured("01")
    buf = row["io"][0]["iov"][0][0]
    row["layout"] |= {"before": [[buf, -1, 1]], "after": [[buf, 9, 1]], "stable": False}
    capture = Capture.of(row)
    assert [type(rec) for rec in land.before(capture)] == [Mmap]
    assert list(land.meanwhile(capture, 5)) == [MmPageAlloc(5, 0, buf, 0, 1, ((9 << 12, 4096),))]


def test_a_write_proves_no_more_than_that_memory_can_be_read(before):
    assert before([[VA, 1, 1]], io=[{"api": "pwrite", "op": "w", "pos": 0, "iov": [[VA, 4096]]}])[0].prot == "r--"
