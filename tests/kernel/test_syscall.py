import pytest

from labkit.errors import SyscallError
from labkit.kernel import syscall
from labkit.machine import Machine
from labkit.trace.events import BlockBioQueue, GupPin, SysEnter, SysExit

END = 16 << 30


@pytest.fixture(params=["phyr", "page"])
def world(request):
    machine = Machine(system=request.param, ram="64 MiB", fragmentation=0)
    task = machine.task()
    return machine, task, task.mmap("64 KiB"), task.open("/dev/nvme0n1")


def refusal(call, *args):
    with pytest.raises(SyscallError) as caught:
        call(*args)
    return str(caught.value)


def test_a_call_is_framed_by_its_enter_and_its_exit(world):
    machine, task, buf, fd = world
    assert task.pread(fd, buf, 4096, 8192) == 4096
    assert machine.trace.of(SysEnter) == (SysEnter(0, 1, "pread64", 3, buf, 4096, 8192),)
    assert [rec[1:] for rec in machine.trace.of(SysExit)] == [(1, "pread64", 4096)]


def test_a_call_that_fails_exits_with_its_errno(world):
    machine, task, buf, fd = world
    refusal(task.pwrite, fd, buf, 4096, 100)
    assert [rec[1:] for rec in machine.trace.of(SysExit)] == [(1, "pwrite64", -22)]


def test_each_call_is_an_io_of_its_own(world):
    machine, task, buf, fd = world
    task.pread(fd, buf, 512)
    task.pwrite(fd, buf, 512)
    assert [rec.io for rec in machine.trace.of(SysEnter)] == [1, 2]


def test_a_device_that_is_not_there_is_enoent(world):
    _, task, _, _ = world
    assert refusal(task.open, "/dev/sda") == "open: '/dev/sda' is not there, only /dev/nvme0n1 (-ENOENT)"


@pytest.mark.parametrize("flags", ["O_RDWR", "O_DIRECT", "O_RDWR|O_RDONLY|O_DIRECT", "O_RDWR|O_DIRECT|O_CREAT", ""])
def test_only_direct_io_can_be_opened(world, flags):
    _, task, _, _ = world
    assert refusal(task.open, "/dev/nvme0n1", flags) == (
        f"open: flags={flags!r} is not one of O_RDONLY, O_WRONLY, O_RDWR with O_DIRECT (-EINVAL)"
    )


def test_descriptors_count_from_three(world):
    _, task, _, fd = world
    assert (fd, task.open("/dev/nvme0n1", "O_RDONLY | O_DIRECT")) == (3, 4)


def test_a_descriptor_that_is_not_open_is_ebadf(world):
    _, task, buf, _ = world
    assert refusal(task.pread, 9, buf, 512) == "pread64: fd=9 is not open for this (-EBADF)"


@pytest.mark.parametrize(("flags", "call"), [("O_RDONLY|O_DIRECT", "pwrite"), ("O_WRONLY|O_DIRECT", "pread")])
def test_a_descriptor_is_for_what_it_was_opened_for(world, flags, call):
    _, task, buf, _ = world
    fd = task.open("/dev/nvme0n1", flags)
    assert refusal(getattr(task, call), fd, buf, 512) == f"{call}64: fd=4 is not open for this (-EBADF)"
    other = task.pread if call == "pwrite" else task.pwrite
    assert other(fd, buf, 512) == 512


def test_a_negative_position_is_einval_before_anything_else(world):
    _, task, buf, fd = world
    assert refusal(task.pread, fd, buf, 512, -512) == "pread64: pos=-512 is negative (-EINVAL)"
    assert refusal(task.pread, 9, buf, 512, -512) == "pread64: pos=-512 is negative (-EINVAL)"


def test_a_negative_count_is_einval(world):
    _, task, buf, fd = world
    assert refusal(task.pwrite, fd, buf, -1) == "pwrite64: count=-1 is negative (-EINVAL)"
    assert refusal(task.pwrite, 9, buf, -1) == "pwrite64: fd=9 is not open for this (-EBADF)"


@pytest.mark.parametrize(
    ("count", "pos", "what"),
    [(4096, 100, "pos=100"), (100, 0, "count=100"), (513, 512, "count=513"), (100, 100, "pos=100")],
)
def test_position_and_count_are_multiples_of_the_logical_block(world, count, pos, what):
    machine, task, buf, fd = world
    assert (
        refusal(task.pread, fd, buf, count, pos)
        == f"pread64: {what} is not a multiple of 512 (O_DIRECT, DIO-3) (-EINVAL)"
    )
    assert machine.trace.of(GupPin) == ()


def test_nothing_is_moved_by_a_count_of_zero_wherever_it_is(world):
    machine, task, buf, fd = world
    for pos in (0, 100, END, END + 5):
        assert task.pread(fd, buf, 0, pos) == 0
        assert task.pwrite(fd, buf, 0, pos) == 0
    assert machine.trace.of(GupPin) == ()


def test_a_read_at_the_end_is_zero_and_a_write_is_enospc(world):
    machine, task, buf, fd = world
    assert task.pread(fd, buf, 4096, END) == 0
    assert task.pread(fd, buf, 4096, END + 100) == 0
    assert refusal(task.pwrite, fd, buf, 4096, END) == (
        f"pwrite64: pos={END} lies beyond the 16 GiB of nvme0n1 (-ENOSPC)"
    )
    assert machine.trace.of(GupPin) == ()


@pytest.mark.parametrize("call", ["pread", "pwrite"])
def test_across_the_end_the_count_is_short(world, call):
    machine, task, buf, fd = world
    assert getattr(task, call)(fd, buf, 8192, END - 4096) == 4096
    assert [rec.nr_sector for rec in machine.trace.of(BlockBioQueue)] == [8]


def test_no_call_moves_more_than_two_gibibytes(world, monkeypatch):
    machine, task, buf, fd = world
    assert syscall.MAX_RW_COUNT == 0x7FFFF000
    monkeypatch.setattr(syscall, "MAX_RW_COUNT", 8192)
    assert task.pread(fd, buf, 65536) == 8192
    assert machine.trace.of(BlockBioQueue)[0].nr_sector == 16


def test_sizes_may_be_text(world):
    _, task, buf, fd = world
    assert task.pwrite(fd, buf, "8 KiB", "1 MiB") == 8192
