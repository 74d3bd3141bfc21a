"""Migration: bytes, counts and mappings go along; what is held, shared with a stranger, or a device's, stays."""

import errno
import importlib.util
from pathlib import Path

import pytest

from labkit.kernel.mm.fault.migrate import compact_range, expected_count, migrate_longterm, migrate_pages
from labkit.trace.page_flags import PG_locked, PG_writeback

_SPEC = importlib.util.spec_from_file_location("world", Path(__file__).parent.with_name("world.py"))
world = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(world)
PAGE = world.PAGE


@pytest.fixture
def life():
    life = world.World()
    yield life
    life.end()


def buffer(life, pages, order=0):
    mm = life.mms[0]
    addr = life.mmap(mm, pages, order)
    life.store(mm, addr, pages)
    return mm, addr, (life.phys(mm, addr), pages * PAGE)


def test_a_page_is_elsewhere_afterwards_with_its_bytes(life):
    mm, addr, (old, nbytes) = buffer(life, 1)
    found = migrate_pages(life.frames, life.mms, [(old, nbytes)])
    assert [(src << 12, order) for src, _, order in found.moved] == [(old, 0)]
    assert (found.stayed, found.error) == ((), None)
    assert life.phys(mm, addr) == found.moved[0][1] << 12 != old
    assert life.ram.gather(((life.phys(mm, addr), 8),)) == (1).to_bytes(8, "little")
    life.look()


def test_the_trace_tells_of_it_once(life):
    _, _, run = buffer(life, 3)
    life.tell()
    migrate_pages(life.frames, life.mms, [run])
    assert [(raw[0], raw[3], len(raw[4])) for raw in life.raw] == [("MmMigratePages", 0, 1)]
    life.look()


def test_both_of_two_tasks_see_the_copy(life):
    mm, addr, run = buffer(life, 2)
    child = life.fork(mm)
    migrate_pages(life.frames, life.mms, [run])
    assert life.phys(child, addr) == life.phys(mm, addr) != run[0]
    life.look()


def test_a_folio_that_a_stranger_maps_stays(life):
    mm, _, run = buffer(life, 2)
    life.fork(mm)
    found = migrate_pages(life.frames, [mm], [run])
    assert (found.moved, found.error.errno) == ((), errno.EAGAIN)
    life.look()


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("page", "has 1025 references where 1 are accounted for (MM-21)"),
        ("folio", "has 1025 references where 1 are accounted for (MM-21)"),
        ("range", "is held by a pin in the ledger"),
        ("lease", "is held by a pin in the ledger"),
        ("none", None),
    ],
)
def test_what_is_pinned_stays(life, policy, why):
    mm, addr, run = buffer(life, 1)
    token = life.pin(mm, addr, 1, policy)
    found = migrate_pages(life.frames, life.mms, [run])
    assert (found.error.rule if found.error else None) == why
    assert found.error is None or (found.error.errno, found.stayed) == (errno.EAGAIN, (run,))
    life.look()
    life.unpin(token)
    assert len(migrate_pages(life.frames, life.mms, [(life.phys(mm, addr), PAGE)]).moved) == 1
    life.look()


def test_a_huge_page_moves_under_its_leaf(life):
    mm, addr, (old, _) = buffer(life, 512, 9)
    found = migrate_pages(life.frames, life.mms, [(old + 5 * PAGE, PAGE)])
    assert [order for _, _, order in found.moved] == [9]
    assert mm.space.find_vma(addr).table.leaf(0).order == 9
    life.look()


def test_a_page_of_a_file_moves_with_its_file(life):
    mm = life.mms[0]
    addr = life.mmap_file(mm, 0, 4, "rw-", shared=True)
    life.store(mm, addr, 4)
    folio = life.frames.folios.phys_to_folio(life.phys(mm, addr))
    assert (expected_count(folio), folio.refcount, folio.mapcount) == (2, 2, 1)
    found = migrate_pages(life.frames, life.mms, [(life.phys(mm, addr), PAGE)])
    assert life.files[0].heads[0] == found.moved[0][1] == folio.pfn
    life.look()


@pytest.mark.parametrize("flag", [PG_locked, PG_writeback])
def test_a_page_of_a_file_that_a_device_is_at_stays_and_no_pin_says_so(life, flag):
    mm = life.mms[0]
    addr = life.mmap_file(mm, 0, 1, "rw-", shared=True)
    life.store(mm, addr, 1)
    folio = life.frames.folios.phys_to_folio(life.phys(mm, addr))
    folio.flags |= flag
    found = migrate_pages(life.frames, life.mms, [(life.phys(mm, addr), PAGE)])
    assert (found.moved, found.error.errno) == ((), errno.EAGAIN)
    folio.flags &= ~flag
    assert len(migrate_pages(life.frames, life.mms, [(life.phys(mm, addr), PAGE)]).moved) == 1


def test_a_range_is_empty_when_it_is_compacted(life):
    mm, addr, _ = buffer(life, 64)
    first = min(life.phys(mm, addr + i * PAGE) for i in range(64)) & -(256 << 10)
    compact_range(life.frames, life.mms, first, 256 << 10)
    inside = [pfn for pfn in life.frames.folios.by_head if first <= pfn << 12 < first + (256 << 10)]
    assert inside == []
    life.look()


def test_what_is_to_stay_for_good_leaves_zone_movable():
    life = world.World(80 << 20, movablecore=16 << 20)
    mm, addr, run = buffer(life, 2)
    movable = next(zone for zone in life.buddy.zones if zone.name == "Movable")
    assert movable.start <= run[0] >> 12 < movable.end
    assert len(migrate_longterm(life.frames, life.mms, [run]).moved) == 2
    assert not movable.start <= life.phys(mm, addr) >> 12 < movable.end
    assert migrate_longterm(life.frames, life.mms, [(life.phys(mm, addr), PAGE)]).moved == ()
    life.end()


def test_without_a_frame_to_go_to_everything_stays(life, monkeypatch):
    mm, addr, run = buffer(life, 2)

    def full(*_):
        raise world.SyscallError("mm", "a frame", "is not to be had", errno.ENOMEM)

    with monkeypatch.context() as patch:
        patch.setattr(life.buddy, "alloc_pages", full)
        found = migrate_pages(life.frames, life.mms, [run])
    assert (found.moved, found.error.errno, life.phys(mm, addr)) == ((), errno.ENOMEM, run[0])
    life.look()
