import pytest

from labkit.errors import SyscallError
from labkit.kernel.mm.fault.fork import dup_mmap, exit_mmap
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mmap
from labkit.kernel.mm.space.mm_struct import Mm

VA = 0x7F00_0000_0000


def family(make_mm, pages, order=0, pin=None):
    """Return a space whose first task has touched `pages`, has perhaps pinned page `pin`, and its child."""
    space = make_mm()
    do_mmap(space.mm, pages << 12, order=order)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, pages)
    if pin is not None:
        space.mm.has_pinned = True
        space.mm.folios.pin(((space.mm.space.vmas[0].table.word(pin) & ~0xFFF, 4096),))
    space.child = Mm(space.mm.frames, 1)
    return space


def frames(mm, pages):
    return [mm.space.vmas[0].table.word(at) >> 12 for at in range(pages)]


def writable(mm, pages):
    return [bool(mm.space.vmas[0].table.word(at) & 2) for at in range(pages)]


def test_after_fork_both_read_the_same_frames_and_neither_may_write(make_mm, told):
    space = family(make_mm, 3)
    assert dup_mmap(space.mm, space.child) == 0
    assert frames(space.child, 3) == frames(space.mm, 3)
    assert writable(space.mm, 3) == writable(space.child, 3) == [False] * 3
    assert [(s.refcount, s.mapcount) for s in space.mm.folios.states()] == [(2, 2)] * 3
    told(space, space.child)


@pytest.mark.parametrize("first", ["parent", "child"])
def test_the_first_to_write_gets_a_copy_and_the_last_keeps_the_page(make_mm, told, first):
    space = family(make_mm, 2)
    dup_mmap(space.mm, space.child)
    old = frames(space.mm, 2)
    writer, other = (space.mm, space.child) if first == "parent" else (space.child, space.mm)
    assert handle_mm_fault(writer, writer.space.vmas[0], 0, 1) == 1
    assert frames(writer, 2) != old
    assert frames(other, 2) == old
    assert handle_mm_fault(other, other.space.vmas[0], 0, 1) == 0
    assert frames(other, 2) == old
    assert writable(other, 2) == [True, False]
    told(space, space.child)


def test_of_a_pinned_page_the_child_gets_a_copy_at_once_and_the_parent_keeps_the_frame(make_mm, told):
    space = family(make_mm, 3, pin=1)
    assert dup_mmap(space.mm, space.child) == 1
    assert [a == b for a, b in zip(frames(space.mm, 3), frames(space.child, 3), strict=True)] == [True, False, True]
    assert writable(space.mm, 3) == [False, True, False]
    assert writable(space.child, 3) == [False, True, False]
    told(space, space.child, pins=False)


def test_a_page_with_many_references_is_copied_too_if_the_task_ever_pinned(make_mm):
    space = family(make_mm, 1)
    space.mm.folios.phys_to_folio(frames(space.mm, 1)[0] << 12).refcount += 1024  # MM-16: a false positive
    assert dup_mmap(space.mm, space.child) == 0
    exit_mmap(space.child)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)
    space.mm.has_pinned = True
    assert dup_mmap(space.mm, Mm(space.mm.frames, 2)) in {0, 1}


def test_of_a_pinned_huge_page_every_page_is_copied(make_mm, told):
    space = family(make_mm, 512, order=9, pin=300)
    assert dup_mmap(space.mm, space.child) == 512
    assert not set(frames(space.mm, 512)) & set(frames(space.child, 512))
    told(space, space.child, pins=False)


def test_a_page_that_the_ledger_holds_counts_as_pinned(make_mm, told):
    space = family(make_mm, 2)
    space.mm.has_pinned = True
    token = space.mm.ledger.pin(1, 0, "range", ((frames(space.mm, 1)[0] << 12, 512),))
    assert dup_mmap(space.mm, space.child) == 1
    space.mm.ledger.unpin(token)
    told(space, space.child)


def test_much_memory_is_shared_by_one_record_and_only_the_pinned_part_is_copied(make_mm, told):
    space = family(make_mm, 1024, pin=700)
    assert dup_mmap(space.mm, space.child) == 1
    assert sum(a == b for a, b in zip(frames(space.mm, 1024), frames(space.child, 1024), strict=True)) == 1023
    told(space, space.child, pins=False)


def test_when_the_child_is_gone_the_parent_writes_without_a_copy(make_mm, told):
    space = family(make_mm, 4)
    old = frames(space.mm, 4)
    dup_mmap(space.mm, space.child)
    exit_mmap(space.child)
    assert handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 4) == 0
    assert (frames(space.mm, 4), writable(space.mm, 4)) == (old, [True] * 4)
    told(space, space.child)


def test_huge_pages_are_shared_as_leaves_and_become_ptes_when_one_is_written(make_mm, told):
    space = family(make_mm, 512, order=9)
    dup_mmap(space.mm, space.child)
    assert [(s.order, s.refcount, s.mapcount) for s in space.mm.folios.states()] == [(9, 2, 2)]
    assert handle_mm_fault(space.child, space.child.space.vmas[0], 5, 6) == 1
    assert [(s.order, s.refcount, s.mapcount) for s in space.mm.folios.states()] == [(9, 512, 512), (0, 1, 1)]
    told(space, space.child)


def test_a_copy_without_a_frame_leaves_no_child_behind(make_mm, only_frames, told):
    space = family(make_mm, 2, pin=0)
    only_frames(space.mm.frames.buddy)
    with pytest.raises(SyscallError, match="ENOMEM"):
        dup_mmap(space.mm, space.child)
    assert space.child.space.vmas == []
    assert [s.mapcount for s in space.mm.folios.states()] == [1, 1]
    told(space, space.child, pins=False)


def test_the_copy_has_the_bytes(make_mm):
    space, copied = family(make_mm, 1), []
    space.mm.frames.copy = lambda *args: copied.append(args)
    dup_mmap(space.mm, space.child)
    old = frames(space.mm, 1)[0] << 12
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)
    assert copied == [(frames(space.mm, 1)[0] << 12, old, 4096)]


def test_a_write_to_the_zero_page_copies_nothing(make_mm):
    space, copied = make_mm(), []
    space.mm.frames.copy = lambda *args: copied.append(args)
    do_mmap(space.mm, 4096)
    vma = space.mm.space.vmas[0]
    assert handle_mm_fault(space.mm, vma, 0, 1, write=False) == 0
    assert handle_mm_fault(space.mm, vma, 0, 1) == 1
    assert copied == []
    assert vma.table.word(0) >> 12 != space.mm.frames.zero_page() >> 12


def test_pages_that_came_together_and_have_very_many_references_are_copied_as_if_pinned(make_mm, told):
    space = family(make_mm, 128)
    space.mm.has_pinned = True
    (batch,) = space.mm.folios.batches
    batch.refcount += 1024  # MM-16: a false positive
    assert dup_mmap(space.mm, space.child) == 128
    assert not set(frames(space.mm, 128)) & set(frames(space.child, 128))
    told(space, space.child, pins=False)
