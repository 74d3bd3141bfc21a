import pytest

from labkit.errors import BadInput, SyscallError
from labkit.machine import Machine
from labkit.task import KERNEL


@pytest.fixture
def machine():
    return Machine(ram="64 MiB", fragmentation=0)


def test_what_is_stored_is_loaded_wherever_the_frames_lie(machine):
    task = machine.task()
    buf = task.mmap("12 KiB")
    task.store(buf + 4000, b"across two pages" * 16)
    assert task.load(buf + 4000, 256) == b"across two pages" * 16
    assert task.load(buf + 4000, 5) == b"acros"


def test_a_load_of_untouched_memory_faults_in_the_zero_page(machine):
    task = machine.task()
    buf = task.mmap("8 KiB")
    assert task.load(buf + 4095, 2) == bytes(2)
    assert machine.snapshot().folios == ()
    assert len(machine.snapshot().pages) == 2
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_load_of_a_file_brings_its_page_and_a_load_beyond_its_end_is_EFAULT(machine):
    task = machine.task()
    buf = task.mmap("8 KiB", folio="memfd")
    assert task.load(buf, 4) == bytes(4)
    assert len(machine.snapshot().folios) == 1
    task.mm.space.vmas[0].ops.truncate(4096)
    with pytest.raises(SyscallError, match=r"lies beyond the end of memfd \(SIGBUS\) \(-EFAULT\)"):
        task.load(buf, 8192)
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


@pytest.mark.parametrize("prot", ["-w-", "--x", "r--"])
def test_what_has_any_right_may_be_read_and_what_has_none_may_not(machine, prot):
    task = machine.task()
    buf = task.mmap("4 KiB")
    task.store(buf, b"x")
    task.mprotect(buf, 4096, prot)
    assert task.load(buf, 1) == b"x"
    task.mprotect(buf, 4096, "---")
    for addr in (buf, 0, buf + 4096):
        with pytest.raises(SyscallError, match=r"(may not be touched|is not present) \(-EFAULT\)"):
            task.load(addr, 1)
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_program_changes_rights_gives_advice_and_maps_populated_memory(machine):
    task = machine.task()
    buf = task.mmap("8 KiB", populate=True)
    assert len(machine.snapshot().folios) == 2
    task.mprotect(buf, "4 KiB", "r--")
    assert (task.writable(buf), task.writable(buf + 4096)) == (False, True)
    task.madvise(buf, "8 KiB", 4)
    assert machine.snapshot().folios == ()
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_task_that_exits_leaves_nothing(machine, nothing_held):
    free, task = machine.buddy.nr_free, machine.task()
    for kind in ("4 KiB", "file", "file-4MiB", "memfd", "secretmem", "guest-memfd", "kvec", "registered"):
        task.store(task.mmap("64 KiB", folio=kind), b"x")
    task.exit()
    assert (machine.buddy.nr_free, machine.snapshot().folios, machine.snapshot().vmas) == (free, (), ())
    nothing_held(machine)


@pytest.mark.parametrize("kind", ["file", "file-private", "file-4MiB", "memfd", "secretmem", "guest-memfd"])
def test_a_file_goes_with_its_last_mapping_and_not_before(machine, kind):
    machine.frames.zero_page()  # stays
    free, parent = machine.buddy.nr_free, machine.task()
    buf = parent.mmap("4 MiB", folio=kind)
    parent.store(buf + 8192, b"kept")
    child = parent.fork()
    parent.munmap(buf, "2 MiB")
    assert child.load(buf + 8192, 4) == b"kept"
    parent.munmap(buf + (2 << 20))
    assert child.load(buf + 8192, 4) == b"kept"
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
    child.munmap(buf)
    assert (machine.buddy.nr_free, machine.snapshot().folios) == (free, ())
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_length_that_is_true_or_false_and_an_address_below_zero_are_refused(machine):
    task = machine.task()
    with pytest.raises(BadInput, match=r"mmap: length=True is not a number of bytes \(-EINVAL\)"):
        task.mmap(True)
    with pytest.raises(BadInput, match=r"munmap: addr=-0x1000\+4096 is no range of user addresses \(-EINVAL\)"):
        task.munmap(-4096)
    assert machine.snapshot().vmas == ()


def test_nobody_may_ever_write_the_kernel_s_clock_page(machine):
    task = machine.task()
    buf = task.mmap("4 KiB", folio="vvar")
    with pytest.raises(SyscallError, match=r"mprotect: vvar may never be written by this mapping \(-EACCES\)"):
        task.mprotect(buf, "4 KiB", "rw-")
    assert not task.writable(buf)
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_nobody_writes_beyond_a_mapping_or_without_the_right(machine):
    task = machine.task()
    buf, fixed = task.mmap("4 KiB"), task.mmap("4 KiB", prot="r--")
    assert (task.writable(buf), task.writable(fixed), task.writable(buf + 4096)) == (True, False, False)
    for addr, data in ((buf + 4090, b"too long"), (fixed, b"x"), (0, b"x")):
        with pytest.raises(SyscallError, match=r"may not be written \(-EFAULT\)"):
            task.store(addr, data)


@pytest.mark.parametrize("folio", ["16 KiB", "64KiB", "1 MiB", "2 MiB"])
def test_anonymous_folios_come_in_every_size_from_16_KiB_to_2_MiB(machine, folio):
    task = machine.task()
    buf = task.mmap("2 MiB", folio=folio)
    task.store(buf, b"x")
    size = {"16 KiB": 2, "64KiB": 4, "1 MiB": 8, "2 MiB": 9}[folio]
    assert [state.order for state in machine.snapshot().folios] == [size]


@pytest.mark.parametrize("folio", ["8 KiB", "4 MiB", "", "GPU"])
def test_a_folio_that_there_is_none_of_is_refused(machine, folio):
    with pytest.raises(BadInput, match=r"mmap: folio='.*' is not one of 4KiB, 16KiB, .*, kvec \(-EINVAL\)"):
        machine.task().mmap(4096, folio=folio)
    assert machine.snapshot().vmas == ()


def test_a_child_has_the_same_bytes_and_its_own_from_the_first_write_on(machine):
    parent = machine.task()
    buf = parent.mmap("8 KiB")
    parent.store(buf, b"before")
    child = parent.fork()
    child.store(buf, b"child!")
    assert (parent.load(buf, 6), child.load(buf, 6)) == (b"before", b"child!")
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_shared_file_mapping_is_shared_after_fork_too(machine):
    parent = machine.task()
    buf = parent.mmap("8 KiB", folio="memfd")
    parent.store(buf, b"before")
    child = parent.fork()
    child.store(buf, b"child!")
    assert parent.load(buf, 6) == b"child!"
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_gpu_that_goes_is_gone_for_the_child_too(machine):
    parent = machine.task()
    buf = parent.mmap("8 KiB", folio="gpu")
    child = parent.fork()
    machine.slots.unplug("gpu0")
    for task in (parent, child):
        with pytest.raises(SyscallError, match=r"lies in gpu, which is revoked \(SIGBUS\) \(-EFAULT\)"):
            task.store(buf, b"x")
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_file_that_is_cut_is_cut_for_the_child_too(machine):
    parent = machine.task()
    buf = parent.mmap("8 KiB", folio="memfd")
    parent.store(buf, bytes(8192))
    child = parent.fork()
    parent.mm.space.vmas[0].ops.truncate(4096)
    for task in (parent, child):
        with pytest.raises(SyscallError, match=r"lies beyond the end of memfd \(SIGBUS\) \(-EFAULT\)"):
            task.store(buf + 4096, b"x")
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_two_gpus_have_two_bars(machine):
    task = machine.task()
    first, second = (task.mmap("64 KiB", folio="gpu") for _ in range(2))
    task.store(first, b"one")
    task.store(second, b"two")
    assert (task.load(first, 3), task.load(second, 3)) == (b"one", b"two")
    assert sorted(machine.slots.plugged) == ["gpu0", "gpu1"]


def test_a_kernel_buffer_lies_in_the_kernel_and_goes_when_it_is_released(machine):
    task, free = machine.task(), machine.buddy.nr_free
    buf = task.mmap("12 KiB", folio="kvec")
    assert buf == 0xFFFF_C900_0000_0000 > KERNEL
    task.store(buf + 4090, b"kernel bytes")
    assert task.load(buf + 4090, 12) == b"kernel bytes"
    task.release(buf)
    assert machine.buddy.nr_free == free
    with pytest.raises(SyscallError, match="EFAULT"):
        task.load(buf, 1)


def test_release_and_settle_of_plain_memory_do_nothing(machine):
    task = machine.task()
    buf = task.mmap(4096)
    before = machine.snapshot()
    task.settle(buf)
    task.release(buf)
    assert machine.snapshot() == before


def test_munmap_without_a_length_goes_to_the_end_of_the_mapping(machine):
    task = machine.task()
    buf = task.mmap("12 KiB")
    task.munmap(buf + 4096)
    assert [(start, nbytes) for start, nbytes, *_ in machine.snapshot().vmas] == [(buf, 4096)]


def test_a_device_that_is_not_there_is_not_opened(machine):
    with pytest.raises(SyscallError, match=r"open: '/dev/sda' is not there, only /dev/nvme0n1 \(-ENOENT\)"):
        machine.task().open("/dev/sda")
