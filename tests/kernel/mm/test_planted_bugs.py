"""Bugs that somebody might put into memory management: each is found, by the invariant that it breaks.

A directed life goes by everything that memory does. As the kernel is, nothing breaks; with one rule broken, the named
invariants do. Six of these bugs are found by the machine of Hypothesis too, which knows of none.
"""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from labkit.kernel.mm.backing.filemap import AddressSpace
from labkit.kernel.mm.fault import cow
from labkit.kernel.mm.frames.folio import Folio
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.frames.ledger import PinLedger
from labkit.kernel.mm.page_alloc.free_area import FreeArea
from labkit.kernel.mm.space.page_table import PageTable

_SPEC = importlib.util.spec_from_file_location("state_machine", Path(__file__).with_name("test_state_machine.py"))
machine = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(machine)
world = machine.world


def live():
    """Map, write, fork, write again, pin, fork while pinned, unmap while pinned, cut a file, move; look after each."""
    life = world.World()
    steps = _steps(life)
    for _ in steps:
        life.look()
    life.end()


def _steps(life):
    mm = life.mms[0]
    buf = life.mmap(mm, 8)
    yield life.store(mm, buf, 8)
    child = life.fork(mm)
    yield
    yield life.touch(child, buf, 2, write=True)
    yield life.store(mm, buf, 4)
    yield life.store(child, buf, 3)
    yield life.exit(child)
    for policy in ("page", "folio", "range"):
        yield from _pinned(life, mm, policy)
    yield life.migrate(mm, buf, 8)
    file = life.mmap_file(mm, 0, 8, "rw-", shared=True)
    yield life.store(mm, file, 8)
    token = life.pin(mm, file, 8, "page")
    yield life.truncate(0, 2)
    yield life.unpin(token)
    yield life.migrate(mm, file, 2)
    huge = life.mmap(mm, 512, 9)
    yield life.store(mm, huge, 512)
    yield life.munmap(mm, huge + 100 * world.PAGE, 5)
    yield from _rarer(life, mm)
    yield life.munmap(mm, buf, 8)
    again = life.mmap(mm, 40)
    yield life.touch(mm, again, 40, write=True)


def _rarer(life, mm):
    """Register and split the pin, fork with huge pages of the pool, merge equal pages, cut a file of large folios."""
    buf = life.mmap(mm, 6)
    yield life.touch(mm, buf, 6, write=True)
    first, second = life.split(life.register(mm, buf, 4), 1)
    yield life.munmap(mm, buf, 2)
    yield life.dma(second)
    yield life.unpin(first)
    yield life.unpin(second)
    pool = life.mmap_hugetlb(mm, 1)
    yield life.store(mm, pool, 3)
    child = life.fork(mm)
    yield life.store(child, pool, 1)
    yield life.exit(child)
    assert life.ksm(mm, _zeros(life, mm), 4) > 0
    yield
    file = life.mmap_file(mm, 3, 48, "rw-", shared=True)
    yield life.store(mm, file, 48)
    yield life.truncate(3, 20)


def _zeros(life, mm):
    """Return the address of four pages of zeros, which are equal."""
    twin = life.mmap(mm, 4)
    life.touch(mm, twin, 4, write=True)
    return twin


def _pinned(life, mm, policy):
    """Pin, fork, write on both sides, let a device write, unmap a part, let the device write again, let go."""
    buf = life.mmap(mm, 6)
    yield life.store(mm, buf, 6)
    token = life.pin(mm, buf, 6, policy)
    yield
    child = life.fork(mm)
    yield
    yield life.store(child, buf, 2)
    yield life.store(mm, buf, 3)
    yield life.dma(token)
    yield life.munmap(mm, buf, 2)
    other = life.mmap(mm, 8)
    yield life.store(mm, other, 8)
    yield life.dma(token)
    yield life.unpin(token)
    yield life.exit(child)


_sound_parts = Frames.parts


def zap_forgets_the_mapcount(self, groups):
    found = list(groups)
    for group, n in found:
        group.refcount -= n
    self.settle(group for group, _ in found)


def a_block_is_joined_with_a_buddy_that_is_in_use(_self, buddy, _order, _type):
    return {buddy: None}


def fork_shares_a_page_that_is_pinned(self, group, *, pinned=False):
    """As before Linux 5.11 (MM-19): the parent writes, and gets a copy; the device writes to the child's page."""
    return ((group, False),) if pinned else _sound_parts(self, group)


def munmap_frees_what_is_pinned(self, group, *, pinned=False):
    return _sound_parts(self, group, pinned=True) if pinned else ((group, False),)


def a_write_reuses_a_page_that_is_shared(*_):
    return True


def truncate_forgets_to_unmap(*_):
    return None


BUGS = [
    (Frames, "unmap", zap_forgets_the_mapcount, "counts"),
    (FreeArea, "_buddies", a_block_is_joined_with_a_buddy_that_is_in_use, "buddy"),
    (Frames, "parts", fork_shares_a_page_that_is_pinned, "exclusive"),
    (Frames, "parts", munmap_frees_what_is_pinned, "pins"),
    (cow, "may_reuse", a_write_reuses_a_page_that_is_shared, "exclusive"),
    (AddressSpace, "_unmap", truncate_forgets_to_unmap, "bytes"),
]
"""One rule each: whose it is, its name, what takes its place, and the invariant that breaks."""
_IDS = [bug.__name__ for _, _, bug, _ in BUGS]


def broken_by(monkeypatch, owner, name, bug):
    """Return the invariants that do not hold where `owner.name` is `bug`."""
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises(world.Broke) as caught:
        live()
    return caught.value.names


def test_as_it_is_nothing_breaks():
    live()


@pytest.mark.parametrize(("owner", "name", "bug", "invariant"), BUGS, ids=_IDS)
def test_a_directed_life_breaks_the_invariant_of(monkeypatch, owner, name, bug, invariant):
    assert invariant in broken_by(monkeypatch, owner, name, bug)


@pytest.mark.parametrize(("owner", "name", "bug", "_invariant"), BUGS, ids=_IDS)
def test_the_machine_of_hypothesis_finds(monkeypatch, owner, name, bug, _invariant):
    monkeypatch.setattr(owner, name, bug)
    once = settings(machine.TestLife.settings, max_examples=400, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(world.Broke):
        run_state_machine_as_test(machine.Life, settings=once)


def test_a_fault_counts_a_mapping_twice(monkeypatch):
    sound = Frames.map
    assert "counts" in broken_by(
        monkeypatch, Frames, "map", lambda self, groups: sound(self, [(group, 2 * n) for group, n in groups])
    )


def test_the_buddy_is_taken_to_be_the_block_above(monkeypatch):
    """Addition where XOR belongs (BUD-3)."""

    def free_one_page(self, pfn, order):
        self.listed += 1 << order
        lists = self.free_area[order][self.pageblock_type(pfn)]
        if order < 10 and pfn + (1 << order) in lists:
            del lists[pfn + (1 << order)]
            order += 1
        self.free_area[order][self.pageblock_type(pfn)][pfn] = None

    assert "buddy" in broken_by(monkeypatch, FreeArea, "free_one_page", free_one_page)


def test_fork_leaves_the_parent_the_right_to_write(monkeypatch):
    assert "rights" in broken_by(monkeypatch, PageTable, "change_but", lambda *_, **__: None)


def test_a_copy_is_not_copied(monkeypatch):
    sound = world.World.__init__

    def init(self, *args):
        sound(self, *args)
        self.frames.copy = lambda *_: None

    assert "bytes" in broken_by(monkeypatch, world.World, "__init__", init)


def test_an_unpin_takes_one_count_too_few(monkeypatch):
    sound = Folio.pin
    found = broken_by(monkeypatch, Folio, "pin", lambda self, pages: sound(self, pages + (pages < 0)))
    assert "counts" in found


def test_freed_memory_keeps_its_bytes(monkeypatch):
    sound = world.World.__init__

    def init(self, *args):
        sound(self, *args)
        self.frames.wipe = lambda *_: None

    assert "bytes" in broken_by(monkeypatch, world.World, "__init__", init)


def test_migration_forgets_the_file(monkeypatch):
    assert "file" in broken_by(monkeypatch, AddressSpace, "replace", lambda *_: None)


def test_the_ledger_forgets_a_range(monkeypatch):
    monkeypatch.setattr(PinLedger, "held_mask", lambda _self, heads, _nbytes: heads < 0)
    assert "exclusive" in broken_by(monkeypatch, PinLedger, "covers", lambda *_: False)
