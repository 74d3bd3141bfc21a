"""A file that is cut, grown and punched holds what it should, whoever looks: zeros where nothing was written."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.machine import Machine
from labkit.trace.events import IomapDioComplete, SysExit

HOLE = "PUNCH_HOLE|KEEP_SIZE"


def opened(fs="ext4", data=b"S" * 8192, **how):
    """Return (machine, task, direct descriptor, buffered descriptor, buffer) of a file that holds `data`."""
    machine = Machine(ram="64 MiB", fragmentation=0, seed=1)
    machine.volume.mkfs(fs)
    machine.volume.create("f", len(data), **how)
    machine.volume.poke("/mnt/f", 0, data)
    task = machine.task()
    return machine, task, task.open("/mnt/f"), task.open("/mnt/f", "O_RDWR"), task.mmap(1 << 17)


def content(machine, task, fd, buf):
    """Return all that a direct read finds in the file."""
    task.store(buf, b"Q" * (1 << 17))
    size = machine.volume.size("/mnt/f")
    assert task.pread(fd, buf, 1 << 17, 0) == size
    return task.load(buf, size) if size else b""


def errno_of(call, *args):
    with pytest.raises(SyscallError) as caught:
        call(*args)
    return caught.value.errno


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
@pytest.mark.parametrize("way", ["task", "volume"])
def test_what_was_cut_off_is_zeros_when_the_file_grows_again(fs, way, nothing_held):
    machine, task, fd, _, buf = opened(fs)
    for nbytes in (1, 8192):
        if way == "task":
            assert task.ftruncate(fd, nbytes) == 0
        else:
            machine.volume.truncate("/mnt/f", nbytes)
    assert content(machine, task, fd, buf) == b"S" + bytes(8191)
    nothing_held(machine)


def test_a_file_that_nobody_has_open_is_zeroed_all_the_same():
    machine = Machine(ram="64 MiB", fs="ext4")
    machine.volume.mkfs("ext4")
    machine.volume.create("f", 8192)
    machine.volume.poke("/mnt/f", 0, b"S" * 8192)
    machine.volume.truncate("/mnt/f", 1)
    machine.volume.truncate("/mnt/f", 8192)
    task = machine.task()
    assert content(machine, task, task.open("/mnt/f"), task.mmap(1 << 17)) == b"S" + bytes(8191)


def test_a_hole_is_zeros_and_its_whole_blocks_are_free():
    machine, task, fd, _, buf = opened(data=b"S" * 16384)
    free = machine.volume.filesystem.df().free
    machine.volume.punch_hole("/mnt/f", 4000, 4200)
    assert content(machine, task, fd, buf) == b"S" * 4000 + bytes(4200) + b"S" * (16384 - 8200)
    assert machine.volume.filesystem.df().free == free + 4096
    assert task.fallocate(fd, 0, 16384, HOLE) == 0
    assert content(machine, task, fd, buf) == bytes(16384)
    machine.volume.filesystem.check()


def test_a_small_file_grows_out_of_its_inode_with_what_it_holds():
    machine, task, fd, _, buf = opened(data=b"S" * 40, inline=True)
    task.ftruncate(fd, 5000)
    assert content(machine, task, fd, buf) == b"S" * 40 + bytes(4960)


def test_room_beyond_the_end_may_be_had_without_growing():
    machine, task, fd, _, _ = opened()
    task.fallocate(fd, 8192, 8192, "KEEP_SIZE")
    assert machine.volume.size("/mnt/f") == 8192
    task.fallocate(fd, 8192, 8192)
    assert machine.volume.size("/mnt/f") == 16384


def test_whoever_cuts_waits_for_direct_io_on_its_way():
    machine, task, fd, _, buf = opened()
    write = machine.clock.job(task.syscalls.rw(fd, buf, 8192, 0, write=True))
    while not machine.volume.inode("/mnt/f").i_rwsem.dios:
        machine.clock.step()
    cut = machine.clock.job(task.syscalls.ftruncate(fd, 512))
    machine.clock.run(until=cut)
    machine.clock.run(until=write)
    assert (write.value, machine.volume.size("/mnt/f")) == (8192, 512)
    (ended,) = (rec.t for rec in machine.trace.of(SysExit) if rec.name == "ftruncate")
    assert max(rec.t for rec in machine.trace.of(IomapDioComplete)) <= ended


def test_what_is_no_change_of_a_file_is_refused():
    machine, task, fd, _, _ = opened()
    reader, device = task.open("/mnt/f", "O_RDONLY|O_DIRECT"), task.open("/dev/nvme0n1")
    assert errno_of(task.ftruncate, 99, 1) == errno.EBADF
    assert errno_of(task.ftruncate, reader, 1) == errno_of(task.ftruncate, device, 1) == errno.EINVAL
    assert errno_of(task.ftruncate, fd, -1) == errno_of(task.fallocate, fd, -1, 1) == errno.EINVAL
    assert errno_of(task.fallocate, fd, 0, 0) == errno_of(task.fallocate, fd, -4096, 512, HOLE) == errno.EINVAL
    assert errno_of(task.ftruncate, fd, 1 << 63) == errno.EFBIG
    assert errno_of(task.fallocate, reader, 0, 1) == errno.EBADF
    assert errno_of(task.fallocate, device, 0, 1) == errno.ENODEV
    assert errno_of(task.fallocate, fd, 0, 1, "PUNCH_HOLE") == errno.EOPNOTSUPP
    assert errno_of(task.fallocate, fd, 0, 1 << 50) == errno.ENOSPC
    assert machine.volume.size("/mnt/f") == 8192
    assert not machine.volume.inode("/mnt/f").i_rwsem.busy


ODD, EVEN = st.integers(0, 40_000), st.integers(0, 10).map(lambda n: n * 4096)
STEPS = st.lists(
    st.tuples(st.sampled_from("tpfwWR"), ODD | EVEN, st.integers(1, 20_000) | EVEN.filter(bool)), max_size=9
)


@given(fs=st.sampled_from(["ext4", "xfs"]), nbytes=st.sampled_from([0, 5000, 16384]), shared=st.booleans(), steps=STEPS)
@settings(deadline=None, max_examples=60)
def test_a_file_is_what_a_bytearray_is(fs, nbytes, shared, steps):
    machine, task, fd, cached, buf = opened(fs, b"S" * nbytes)
    if fs == "xfs" and shared:
        machine.volume.filesystem.reflink("f", "g")
    want = bytearray(b"S" * nbytes)
    for what, pos, size in steps:
        end = min(len(want), pos + size)
        if what == "t":
            task.ftruncate(fd, pos)
            want = want[:pos] + bytes(max(0, pos - len(want)))
        elif what == "p":
            task.fallocate(fd, pos, size, HOLE)
            want[pos:end] = bytes(max(0, end - pos))
        elif what == "f":
            task.fallocate(fd, pos, size)
            want += bytes(max(0, pos + size - len(want)))
        elif what == "R":
            task.pread(cached, buf, size, pos)
            assert task.load(buf, size)[: max(0, end - pos)] == want[pos:end]
        elif what == "W" or (pos | size) % 512 == 0:
            task.store(buf, what.encode() * size)
            assert task.pwrite(cached if what == "W" else fd, buf, size, pos) == size
            want += bytes(max(0, pos - len(want)))
            want[pos : pos + size] = what.encode() * size
        machine.volume.filesystem.check()
    assert content(machine, task, fd, buf) == want
