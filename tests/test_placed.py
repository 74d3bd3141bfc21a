"""Memory at the very addresses, in the very frames and folios: what a task, a snapshot and the trace see of it."""

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.block.limits import QueueLimits
from labkit.machine import Machine
from labkit.machine.placed import Placed
from labkit.trace.page_flags import PG_anon
from labkit.trace.state import state_at

VA = 0x5555_5540_0000


def machine(placed, **knobs):
    return Machine(device="null", system="page", placed=placed, check=True, **knobs)


def mapped(placed, **knobs):
    made = machine(placed, **knobs)
    task = made.task()
    placed.map(task.mm)
    return made, task


def sound(made):
    """Return whether all invariants hold, and the trace tells of everything."""
    told = made.trial.judge(made)
    return told["violations"] == [] and state_at(made.tracer.records, made.clock.now) == made.snapshot()


def test_pages_lie_in_the_frames_that_were_told():
    made, task = mapped(Placed(rows=((VA, 0x54321, 2), (VA + 0x2000, 0x77, 1))))
    assert list(task.frames(VA, 0x3000)) == [(0x54321000, 4096), (0x54322000, 4096), (0x77000, 4096)]
    task.store(VA + 0x1FF0, b"x" * 32)
    assert made.ram.gather(((0x54322FF0, 16), (0x77000, 16))) == b"x" * 32
    assert sound(made)


def test_no_one_else_was_given_them_at_boot():
    placed = Placed(rows=((VA, 0x100, 0x300),))
    made = machine(placed, ram="64 MiB")
    assert placed.waiting == 0x300
    assert sound(made)
    placed.map(made.task().mm)
    assert placed.waiting == 0
    assert sound(made)


def test_a_folio_is_mapped_whole_and_by_a_leaf_where_it_lies_on_one():
    made, task = mapped(Placed(rows=((VA + 0x2000, 0x8002, 4),), folios=((0x8000, 9),)))
    (vma,) = task.mm.space.vmas
    assert (vma.start, vma.end) == (VA, VA + (2 << 20))
    assert vma.table.leaf(0).order == 9
    (folio,) = made.snapshot().folios
    assert (folio.pfn, folio.order, folio.mapcount) == (0x8000, 9, 1)
    assert sound(made)


def test_a_folio_of_sixteen_pages_is_mapped_by_PTEs():
    made, _ = mapped(Placed(rows=((VA, 0x8010, 16),), folios=((0x8010, 4),)))
    (folio,) = made.snapshot().folios
    assert (folio.pfn, folio.order, folio.mapcount, folio.refcount) == (0x8010, 4, 16, 16)
    assert sound(made)


def test_a_folio_at_several_addresses_is_a_file_in_memory():
    rows = ((VA, 0x8040, 17), (VA + 17 * 4096, 0x8000, 17), (VA + 34 * 4096, 0x9000, 3))
    made, task = mapped(Placed(rows=rows, folios=((0x8000, 9),)))
    assert [(vma.name, vma.pgoff) for vma in task.mm.space.vmas] == [("memfd", 0x40), ("memfd", 0), ("anon", 0)]
    folio = made.snapshot().folios[0]
    assert (folio.order, folio.mapcount, folio.refcount, folio.flags & PG_anon) == (9, 34, 512 + 34, 0)
    assert sound(made)


def test_a_frame_at_two_addresses_shows_the_same_bytes():
    made, task = mapped(Placed(rows=((VA, 0x8000, 1), (VA + 0x1000, 0x8000, 1))))
    task.store(VA, b"once")
    assert task.load(VA + 0x1000, 4) == b"once"
    assert sound(made)


def test_a_late_page_comes_when_it_is_touched_and_in_its_frame():
    placed = Placed(rows=((VA, 0x8000, 1),), late=((VA + 0x1000, 0x9000, 2),))
    made, task = mapped(placed)
    with pytest.raises(SyscallError, match="is not present"):
        list(task.frames(VA + 0x1000, 1))
    assert placed.waiting == 2
    task.store(VA + 0x2000, b"late")
    assert list(task.frames(VA + 0x2000, 4)) == [(0x9001000, 4)]
    assert placed.waiting == 1
    assert sound(made)


def test_the_zero_page_is_where_it_was():
    made, task = mapped(Placed(zero=0x3B34, ready=((VA, 0x2000),)))
    assert task.load(VA, 0x2000) == bytes(0x2000)
    assert list(task.frames(VA, 0x2000)) == [(0x3B34000, 4096)] * 2
    assert made.snapshot().folios == ()
    assert sound(made)


def test_what_is_absent_is_not_mapped():
    _, task = mapped(Placed(rows=((VA, 0x8000, 1), (VA + 0x2000, 0x9000, 1)), absent=((VA + 0x1000, 0x1000),)))
    assert [(vma.start, vma.end) for vma in task.mm.space.vmas] == [(VA, VA + 0x1000), (VA + 0x2000, VA + 0x3000)]


def test_RAM_goes_as_far_below_4_GiB_as_frames_were_seen():
    placed = Placed(rows=((VA, 0xDFFFF, 1),))
    assert (placed.pci_hole, placed.phys_end) == (0xE000_0000, 0xE000_0000)
    made, task = mapped(placed)
    task.store(VA, b"high")
    assert made.ram.gather(((0xDFFFF000, 4),)) == b"high"
    assert Placed().pci_hole == 3 << 30


@pytest.mark.parametrize("pfn", [0, 0xA0, 0x40_0000])
def test_a_frame_that_is_no_RAM_is_refused(pfn):
    with pytest.raises(BadInput, match="are no RAM of one zone of this machine"):
        machine(Placed(rows=((VA, pfn, 1),)))


def test_everything_goes_back_when_the_task_ends():
    rows = ((VA, 0x8040, 17), (VA + 17 * 4096, 0x8000, 17), (VA + (4 << 20), 0x9200, 4), (VA + (8 << 20), 0x77, 1))
    placed = Placed(rows=rows, folios=((0x8000, 9), (0x9200, 9)))
    made = machine(placed)
    free = made.buddy.nr_free
    task = made.task()
    placed.map(task.mm)
    task.exit()
    assert made.buddy.nr_free - free == 512 + 512 + 1
    assert made.snapshot().folios == ()
    assert sound(made)


def test_the_limits_and_the_driver_may_be_those_of_a_loop_device():
    limits = QueueLimits(max_segments=7, max_hw_sectors=64)
    made = machine(Placed(limits=limits, loop="loop3", aligned=511))
    assert (made.disk, made.driver.name, made.driver.aligned) == ("loop3", "loop", 511)
    assert made.queue.limits == limits
    assert machine(Placed()).disk == "nullb0"
