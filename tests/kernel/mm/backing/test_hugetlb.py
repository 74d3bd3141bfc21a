import errno

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.backing.hugetlb import HugetlbPool
from labkit.kernel.mm.fault.fork import dup_mmap
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mmap, do_mprotect, do_munmap
from labkit.kernel.mm.gup.gup import pin_user_pages, unpin_user_pages
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.machine import Machine
from labkit.trace.snapshot import FolioState

VA, MIB2 = 0x7F00_0000_0000, 2 << 20
FLAGS = 1 << 3 | 1 << 12 | 1 << 17 | 1 << 34  # uptodate, anon, hugetlb, exclusive


def pool_of(make_mm, pages=2):
    space = make_mm(4608, 5120, 5632, order=9)
    return space, HugetlbPool(space.mm.frames, pages)


def test_a_huge_page_is_a_leaf_and_one_reference(make_mm, told):
    space, pool = pool_of(make_mm)
    assert pool.mmap(space.mm, 1 << 20) == VA  # rounded up
    vma = space.mm.space.vmas[0]
    assert handle_mm_fault(space.mm, vma, 3, 4) == 1
    assert vma.table.present(0, 512) == [(0, 512, 9)]
    assert list(space.mm.folios.states()) == [FolioState(4608, 9, 1, 0, 1, FLAGS)]
    assert space.raw == [
        ("Mmap", 5, 0, VA, MIB2, "rw-", "hugetlb 2 MiB", 0, "hugetlb"),
        ("MmPageAlloc", 5, 0, VA, 9, 1, ((0x1200000, MIB2),), 0),
        ("FolioFlags", 5, 0, ((0x1200000, MIB2),), 1 << 17, 0),
    ]
    told(space)


def test_a_page_goes_back_to_the_pool_and_not_to_the_allocator(make_mm, told):
    space, pool = pool_of(make_mm)
    free = space.mm.frames.buddy.nr_free
    pool.mmap(space.mm, MIB2)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)
    assert pool.free == [5120]
    do_munmap(space.mm, VA, MIB2)
    assert pool.free == [5120, 4608]
    assert space.mm.frames.buddy.nr_free == free
    told(space)


def test_what_mmap_promised_is_kept_from_the_next(make_mm):
    space, pool = pool_of(make_mm)
    pool.mmap(space.mm, 2 * MIB2)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)
    assert (len(pool.free), pool.reserved) == (1, 1)
    before = list(space.raw)
    with pytest.raises(SyscallError, match=r"mmap: 2 MiB needs 1 huge pages of 2 MiB: the pool has 0 \(-ENOMEM\)"):
        pool.mmap(space.mm, MIB2)
    assert space.raw == before
    do_munmap(space.mm, VA, 2 * MIB2)
    assert (len(pool.free), pool.reserved) == (2, 0)


def test_half_a_huge_page_is_not_unmapped(make_mm):
    space, pool = pool_of(make_mm)
    pool.mmap(space.mm, MIB2)
    with pytest.raises(BadInput, match=r"munmap: .* cuts a hugetlb page in two \(-EINVAL\)"):
        do_munmap(space.mm, VA, 4096)


def test_a_page_that_nobody_promised_is_SIGBUS_where_the_pool_is_empty(make_mm):
    space, pool = pool_of(make_mm, pages=0)
    addr = do_mmap(space.mm, MIB2, order=9, ops=pool)
    with pytest.raises(
        SyscallError, match=rf"hugetlb: addr={addr:#x} finds no huge page in the pool \(SIGBUS\)"
    ) as bad:
        handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)
    assert bad.value.errno == errno.EFAULT


def test_a_pool_is_as_large_as_memory_lets_it_be(make_mm):
    space = make_mm()
    assert 8 < len(HugetlbPool(space.mm.frames, 1000).free) < 32
    assert HugetlbPool(space.mm.frames, 1, order=18).free == []


@pytest.mark.parametrize(("pages", "order"), [(1, 4), (1, 10), (-1, 9)])
def test_a_pool_of_other_pages_is_refused(make_mm, pages, order):
    with pytest.raises(BadInput, match=r"is no pool: pages are of 2 MiB or 1 GiB"):
        HugetlbPool(make_mm().mm.frames, pages, order)


def test_a_page_of_1_GiB_is_one_leaf_at_the_level_above():
    machine = Machine(ram="4 GiB")
    task = machine.task()
    task.mmap(4096)
    buf = task.mmap("1 GiB", folio="hugetlb1g")
    task.store(buf + 12345, b"far")
    assert buf % (1 << 30) == 0
    assert [level.name for level in task.mm.walk(buf)] == ["PGD", "PUD"]
    assert [(s.order, s.refcount) for s in machine.snapshot().folios] == [(18, 1)]
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
    task.munmap(buf)
    assert machine.snapshot().folios == ()
    assert len(machine.slots.pool(18).free) == 1


@pytest.fixture
def family():
    machine = Machine(ram="128 MiB", fragmentation=0)
    parent = machine.task()
    buf = parent.mmap("2 MiB", folio="hugetlb")
    parent.store(buf, b"start")
    parent.store(buf + 5000, b"paren")
    return machine, parent, parent.fork(), buf


def test_after_fork_a_write_copies_the_whole_huge_page(family):
    machine, parent, child, buf = family
    child.store(buf + 5000, b"child")
    assert (parent.load(buf + 5000, 5), child.load(buf + 5000, 5)) == (b"paren", b"child")
    assert parent.load(buf, 5) == child.load(buf, 5) == b"start"
    assert [(s.order, s.refcount) for s in machine.snapshot().folios] == [(9, 1), (9, 1)]
    parent.store(buf, b"still")  # nobody else has it any more
    assert len(machine.snapshot().folios) == 2
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_child_was_promised_nothing(family):
    machine, parent, _, _ = family
    pool = machine.slots.pool(9)
    assert pool.reserved == 0
    parent.mmap("4 MiB", folio="hugetlb")
    assert pool.reserved == 2
    parent.fork()
    assert pool.reserved == 2


def test_after_fork_a_write_that_finds_no_huge_page_changes_nothing(family):
    machine, parent, child, buf = family
    machine.slots.pool(9).free.clear()
    before = machine.snapshot()
    with pytest.raises(SyscallError, match=r"hugetlb: addr=.* finds no huge page in the pool \(SIGBUS\) \(-EFAULT\)"):
        child.store(buf, b"child")
    assert machine.snapshot() == before
    assert parent.load(buf, 5) == b"start"


def test_of_a_pinned_huge_page_the_child_gets_a_whole_copy_at_once_and_the_parent_keeps_its_own():
    machine = Machine(ram="128 MiB", fragmentation=0, system="page")
    parent = machine.task()
    buf = parent.mmap("4 MiB", folio="hugetlb")
    parent.store(buf, b"pinned")
    parent.store(buf + MIB2, b"shared")
    pages = pin_user_pages(parent.mm, buf + 8192, 1, write=True)
    before = parent.mm.space.vmas[0].table.word(0)
    child = parent.fork()
    assert parent.mm.space.vmas[0].table.word(0) == before
    assert (child.load(buf, 6), child.load(buf + MIB2, 6)) == (b"pinned", b"shared")
    for mm in (parent.mm, child.mm):
        assert {order for _, _, order in mm.space.vmas[0].table.present(0, 1024)} == {9}
    parent.store(buf, b"parent")
    assert child.load(buf, 6) == b"pinned"
    assert parent.mm.space.vmas[0].table.word(0) == before
    unpin_user_pages(parent.mm, pages.runs)
    assert sorted(s.refcount for s in machine.snapshot().folios) == [1, 1, 2]
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_fork_that_finds_no_huge_page_for_its_copy_fails_and_the_parent_goes_on():
    machine = Machine(ram="128 MiB", fragmentation=0, system="page")
    parent = machine.task()
    buf = parent.mmap("4 MiB", folio="hugetlb")
    parent.store(buf, b"pinned")
    parent.store(buf + MIB2, b"plain")
    pages = pin_user_pages(parent.mm, buf, 1, write=True)
    machine.slots.pool(9).free.clear()
    before = parent.mm.space.vmas[0].table.word(0)
    with pytest.raises(SyscallError, match=r"fork: task 0 is not copied: .* finds no huge page .* \(-ENOMEM\)"):
        parent.fork()
    parent.store(buf, b"parent")
    parent.store(buf + MIB2, b"goes on")
    assert (parent.load(buf, 6), parent.load(buf + MIB2, 7)) == (b"parent", b"goes on")
    assert parent.mm.space.vmas[0].table.word(0) == before
    unpin_user_pages(parent.mm, pages.runs)
    assert [(s.refcount, s.mapcount) for s in machine.snapshot().folios] == [(1, 1), (1, 1)]
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_huge_page_that_is_promised_to_the_parent_is_not_given_to_its_child(make_mm, told):
    space, pool = pool_of(make_mm, pages=1)
    pool.mmap(space.mm, MIB2)
    child = Mm(space.mm.frames, 1)
    dup_mmap(space.mm, child)
    with pytest.raises(SyscallError, match=r"finds no huge page in the pool \(SIGBUS\) \(-EFAULT\)"):
        handle_mm_fault(child, child.space.vmas[0], 0, 1)
    assert (len(pool.free), pool.reserved) == (1, 1)
    assert handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1) == 1
    told(space, child)


def test_a_copy_after_fork_takes_no_huge_page_that_is_promised_to_another_mapping(make_mm, told):
    space, pool = pool_of(make_mm)
    pool.mmap(space.mm, MIB2)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)
    child = Mm(space.mm.frames, 1)
    dup_mmap(space.mm, child)
    other = pool.mmap(space.mm, MIB2)
    with pytest.raises(SyscallError, match=r"finds no huge page in the pool \(SIGBUS\) \(-EFAULT\)"):
        handle_mm_fault(child, child.space.vmas[0], 0, 1)
    assert handle_mm_fault(space.mm, space.mm.space.find_vma(other), 0, 1) == 1
    told(space, child)


def test_a_huge_page_that_is_pinned_is_not_copied_when_its_rights_come_back(make_mm, told):
    space, pool = pool_of(make_mm)
    pool.mmap(space.mm, MIB2)
    pages = pin_user_pages(space.mm, VA, 1, write=True)
    before = space.mm.space.vmas[0].table.word(0)
    do_mprotect(space.mm, VA, MIB2, "r--")
    do_mprotect(space.mm, VA, MIB2, "rw-")
    assert handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1) == 0
    assert space.mm.space.vmas[0].table.word(0) == before
    unpin_user_pages(space.mm, pages.runs)
    told(space)
