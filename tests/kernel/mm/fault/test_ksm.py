import pytest

from labkit.kernel.mm.fault.ksm import merge
from labkit.kernel.mm.gup.gup import pin_user_pages
from labkit.machine import Machine


@pytest.fixture
def world():
    machine = Machine(ram="64 MiB", fragmentation=0)
    task = machine.task()
    buf = task.mmap("16 KiB")

    def scan():
        return merge(task.mm, ((buf, 16384),), lambda addr, nbytes: machine.ram.gather(((addr, nbytes),)))

    def frames():
        return [addr >> 12 for addr, _ in task.frames(buf, 16384)]

    def told():
        assert machine.snapshot() == machine.trace.state_at(machine.clock.now)

    return machine, task, buf, scan, frames, told


def test_equal_pages_become_one_that_nobody_may_write(world):
    machine, task, buf, scan, frames, told = world
    task.store(buf, b"a" * 4096 + b"b" * 4096 + b"a" * 8192)
    free = machine.buddy.nr_free
    assert scan() == 2
    assert len(set(frames())) == 2
    assert machine.buddy.nr_free == free + 2
    assert [(s.refcount, s.mapcount, s.flags >> 21 & 1) for s in machine.snapshot().folios] == [(3, 3, 1), (1, 1, 0)]
    assert task.load(buf, 16384) == b"a" * 4096 + b"b" * 4096 + b"a" * 8192
    told()


def test_a_second_scan_finds_nothing_more(world):
    _, task, buf, scan, _, told = world
    task.store(buf, bytes(16384))
    assert (scan(), scan()) == (3, 0)
    told()


def test_a_write_makes_a_copy_and_the_others_keep_what_they_had(world):
    machine, task, buf, scan, frames, told = world
    task.store(buf, b"a" * 16384)
    scan()
    task.store(buf + 4096, b"X")
    assert len(set(frames())) == 2
    assert task.load(buf, 4097) == b"a" * 4096 + b"X"
    told()
    task.munmap(buf)
    assert machine.snapshot().folios == ()
    told()


def test_a_read_pin_copies_first_too(world):
    _, task, buf, scan, frames, _ = world
    task.store(buf, b"a" * 16384)
    scan()
    (shared,) = set(frames())
    pages = pin_user_pages(task.mm, buf, 2, write=False)
    assert shared not in [addr >> 12 for addr, _ in pages.runs]
    assert frames()[2:] == [shared, shared]


def test_a_pinned_page_is_left_alone(world):
    _, task, buf, scan, frames, _ = world
    task.store(buf, b"a" * 16384)
    pinned = pin_user_pages(task.mm, buf, 1, write=True).runs[0][0] >> 12
    assert scan() == 2
    assert frames()[0] == pinned
    assert pinned not in frames()[1:]


def test_large_folios_and_untouched_pages_are_left_alone(world):
    machine, task, buf, scan, _, told = world
    huge = task.mmap("64 KiB", folio="64 KiB")
    task.store(huge, bytes(65536))
    task.store(buf, b"a")
    assert scan() == 0
    assert merge(task.mm, ((huge, 65536),), lambda *_: b"") == 0
    assert [s.order for s in machine.snapshot().folios].count(4) == 1
    told()
