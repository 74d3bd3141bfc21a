"""Files of a machine: what goes through the cache and what goes past it is one file, and nothing of it is lost."""

import errno

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.machine import Machine
from labkit.trace.events import (
    BlockBioQueue,
    DeviceDma,
    GupPin,
    GupUnpin,
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    PageCacheRaOrder,
    SysExit,
)
from labkit.trace.page_flags import PG_dirty

SYSTEMS = ("page", "phyr", "unified")
KIB = 1 << 10


class Lab:
    """A machine with one file of 1 MiB, whose first page is all A and whose third is all B; and a task."""

    def __init__(self, system="phyr", fs="ext4", **knobs):
        self.machine = Machine(ram="64 MiB", fragmentation=0, check=True, system=system, **knobs)
        self.volume = self.machine.volume
        self.volume.mkfs(fs)
        self.volume.create("f", 1 << 20)
        self.volume.poke("/mnt/f", 0, b"A" * 4096)
        self.volume.poke("/mnt/f", 8192, b"B" * 4096)
        self.task = self.machine.task()
        self.direct = self.task.open("/mnt/f", "O_RDWR|O_DIRECT")
        self.cached = self.task.open("/mnt/f", "O_RDWR")
        self.buf = self.task.mmap("64 KiB")

    def medium(self, pos, nbytes=4):
        return self.volume.peek("/mnt/f", pos, nbytes)

    def read(self, fd, pos=0):
        self.task.pread(fd, self.buf, 4096, pos)
        return self.task.load(self.buf, 4)

    def write(self, fd, text, pos=0, flags=""):
        self.task.store(self.buf, text * (4096 // len(text)))
        return self.task.pwrite(fd, self.buf, 4096, pos, flags)

    def sound(self, nothing_held):
        """Whether nothing is held, broken or untold."""
        assert self.machine.trial.judge(self.machine)["violations"] == []
        nothing_held(self.machine)
        return True


def names(lab, *kinds):
    return [type(rec).__name__ for rec in lab.machine.trace if isinstance(rec, kinds)]


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_what_is_written_into_the_cache_is_read_past_it(system, fs, nothing_held):
    lab = Lab(system, fs)
    lab.write(lab.cached, b"new!")
    assert lab.medium(0) == b"AAAA"
    assert lab.read(lab.direct) == b"new!" == lab.medium(0)
    assert lab.sound(nothing_held)


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_what_is_written_past_the_cache_is_read_through_it(system, fs, nothing_held):
    lab = Lab(system, fs)
    assert lab.read(lab.cached) == b"AAAA"
    lab.write(lab.direct, b"new!")
    assert names(lab, MmFilemapDeleteFromPageCache)
    assert lab.read(lab.cached) == b"new!"
    assert lab.sound(nothing_held)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_dirty_page_that_is_mapped_is_written_out_and_dropped_before_a_direct_write(system, nothing_held):
    lab = Lab(system)
    mapped = lab.task.mmap_fd(lab.direct, 8192)
    lab.task.store(mapped, b"mine" * 2048)
    assert lab.write(lab.direct, b"new!") == 4096
    assert (lab.task.load(mapped, 4), lab.medium(0)) == (b"new!", b"new!")
    assert (lab.task.load(mapped + 4096, 4), lab.medium(4096)) == (b"mine", bytes(4))  # dirty still: of no IO
    lab.task.fsync(lab.direct)
    assert lab.medium(4096) == b"mine"
    assert lab.sound(nothing_held)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("op", ["read", "write"])
def test_who_may_not_wait_for_a_dirty_page_is_told_EAGAIN(system, op, nothing_held):
    lab = Lab(system)
    lab.write(lab.cached, b"new!")
    call = lab.task.pread if op == "read" else lab.task.pwrite
    with pytest.raises(SyscallError, match=r"is dirty in the page cache, and nobody may wait \(RWF_NOWAIT\) \(-EAGAIN"):
        call(lab.direct, lab.buf, 4096, 0, "RWF_NOWAIT")
    assert lab.medium(0) == b"AAAA"
    lab.task.fsync(lab.cached)
    if op == "read":
        assert call(lab.direct, lab.buf, 4096, 0, "RWF_NOWAIT") == 4096
    else:  # a clean page would have to be dropped: who may not wait does not try
        with pytest.raises(SyscallError, match=r"is in the page cache, and nobody may wait .*-EAGAIN"):
            call(lab.direct, lab.buf, 4096, 0, "RWF_NOWAIT")
        assert call(lab.direct, lab.buf, 4096, 4096, "RWF_NOWAIT") == 4096
    assert lab.sound(nothing_held)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_write_that_is_to_last_goes_with_FUA_where_there_is_such_and_else_with_a_flush(system, nothing_held):
    told = {}
    for name, limits in (("fua", {}), ("flush", {"fua": 0}), ("none", {"write_cache": 0})):
        lab = Lab(system, limits=limits)
        lab.task.fsync(lab.direct)  # the file is new, and else it is synced for that
        begun = len(lab.machine.trace.of(BlockBioQueue))
        lab.write(lab.direct, b"new!", flags="RWF_DSYNC")
        told[name] = [rec.rwbs for rec in lab.machine.trace.of(BlockBioQueue)[begun:]]
        assert lab.sound(nothing_held)
    assert told["fua"] == ["WFS"]
    assert [rwbs[0] for rwbs in told["flush"]] == ["W", "F"]
    assert len(told["none"]) == 1


def test_what_is_appended_makes_the_file_longer_and_is_there(nothing_held):
    lab = Lab()
    assert lab.write(lab.direct, b"tail", flags="RWF_APPEND") == 4096
    assert lab.volume.size("/mnt/f") == (1 << 20) + 4096
    assert lab.medium(1 << 20) == b"tail"
    assert lab.read(lab.cached, 1 << 20) == b"tail"
    assert lab.sound(nothing_held)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_read_across_the_end_is_short_and_one_behind_it_is_nothing(system, nothing_held):
    lab = Lab(system)
    size = 1 << 20
    for fd in (lab.direct, lab.cached):
        assert lab.task.pread(fd, lab.buf, "16 KiB", size - 4096) == 4096
        assert lab.task.pread(fd, lab.buf, 4096, size) == 0
        assert lab.task.pread(fd, lab.buf, 4096, size + (1 << 30)) == 0
    assert lab.sound(nothing_held)


def fill(task, fd, buf):
    """Write 64 KiB after 64 KiB until there is no room; return how many bytes went."""
    for pos in range(0, 1 << 30, 65536):
        try:
            went = task.pwrite(fd, buf, "64 KiB", pos)
        except SyscallError:
            return pos
        if went < 65536:
            return pos + went
    return 1 << 30


@pytest.mark.parametrize("flags", ["O_RDWR|O_DIRECT", "O_RDWR"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_full_filesystem_loses_nothing(system, flags, nothing_held):
    machine = Machine(ram="64 MiB", fragmentation=0, check=True, system=system)
    fs = machine.volume.mkfs("ext4", nbytes=1 << 20)
    task = machine.task()
    fd, buf = task.open("/mnt/new", f"{flags}|O_CREAT"), task.mmap("64 KiB")
    task.store(buf, b"kept" * 16384)
    pos = fill(task, fd, buf)
    assert pos > 512 * KIB
    with pytest.raises(SyscallError, match=r"\(-ENOSPC\)"):
        task.pwrite(fd, buf, "64 KiB", pos)
    task.fsync(fd)
    assert machine.volume.peek("/mnt/new", 0, pos) == b"kept" * (pos // 4)
    fs.check()
    assert fs.df().free < 64 * KIB
    assert task.pread(fd, buf, "64 KiB", pos - 65536) == 65536
    nothing_held(machine)


@pytest.mark.parametrize("touched", [False, True], ids=["fresh", "touched"])
@pytest.mark.parametrize("pos", [0, 8192], ids=["itself", "elsewhere"])
@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_mapping_of_the_same_file_is_a_buffer_like_any_other(system, op, pos, touched, nothing_held):
    """D-6: who pins when a bio is filled does so below the filesystem; nobody is stuck for it here, and bytes agree."""
    lab = Lab(system)
    mapped = lab.task.mmap_fd(lab.direct, 4096)
    if touched:
        lab.task.load(mapped, 1)
    assert (lab.task.pread if op == "read" else lab.task.pwrite)(lab.direct, mapped, 4096, pos) == 4096
    want = {("read", 0): b"AAAA", ("read", 8192): b"BBBB", ("write", 0): b"AAAA", ("write", 8192): b"AAAA"}[op, pos]
    assert lab.task.load(mapped, 4) == want
    lab.task.fsync(lab.direct)
    assert lab.medium(pos) == want
    assert lab.medium(0) == (b"BBBB" if (op, pos) == ("read", 8192) else b"AAAA")
    assert lab.sound(nothing_held)


@pytest.mark.parametrize(
    ("system", "order"),
    [
        ("page", ["Delete", "Add", "GupPin", "DeviceDma", "GupUnpin", "Delete"]),
        ("phyr", ["GupPin", "Delete", "DeviceDma", "GupUnpin"]),
        ("unified", ["GupPin", "Delete", "DeviceDma", "GupUnpin"]),
    ],
)
def test_a_file_is_written_from_a_mapping_of_the_same_page(system, order, nothing_held):
    """D-7: pinned late, the page that was dropped comes back by the fault, and is dropped once more in the end.

    Pinned early, it is dropped while it is pinned: the device reads an orphan, and what it reads is right (DIO-19).
    """
    lab = Lab(system)
    mapped = lab.task.mmap_fd(lab.direct, 4096)
    assert lab.task.load(mapped, 4) == b"AAAA"
    begun = len(lab.machine.trace.records)
    lab.task.pwrite(lab.direct, mapped, 4096, 0)
    told = lab.machine.trace.records[begun:]
    watched = (MmFilemapAddToPageCache, MmFilemapDeleteFromPageCache, GupPin, GupUnpin, DeviceDma)
    short = {"MmFilemapAddToPageCache": "Add", "MmFilemapDeleteFromPageCache": "Delete"}
    assert [short.get(type(rec).__name__, type(rec).__name__) for rec in told if isinstance(rec, watched)] == order
    assert lab.medium(0) == b"AAAA" == lab.task.load(mapped, 4)
    assert lab.sound(nothing_held)


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_is_read_into_a_mapping_is_lost_to_an_orphan_if_the_page_is_dropped_meanwhile(system, nothing_held):
    """D-7, DIO-19: a read into page 0 of the file, and at once a direct write to page 0, which drops it from the cache.

    Both succeed. The read has put its bytes into the folio that it pinned, and no file has that any more.
    """
    lab = Lab(system)
    mapped, other = lab.task.mmap_fd(lab.direct, 4096), lab.task.mmap("4 KiB")
    lab.task.load(mapped, 1)
    lab.task.store(other, b"new!" * 1024)
    ring = lab.task.io_uring()
    ring.read(lab.direct, mapped, 4096, 8192)
    ring.write(lab.direct, other, 4096, 0)
    assert sorted(cqe.res for cqe in ring.submit()) == [4096, 4096]
    (read,) = [rec for rec in lab.machine.trace.of(GupPin) if rec.io == 1]
    assert names(lab, MmFilemapDeleteFromPageCache)
    assert lab.machine.folios.phys_to_folio(read.ranges[0][0]) is None  # free again: nobody counts on it
    assert lab.task.load(mapped, 4) == b"new!" == lab.medium(0)
    assert lab.medium(8192) == b"BBBB"
    assert lab.sound(nothing_held)


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
@pytest.mark.parametrize("nbytes", [4 * KIB, 64 * KIB, 1024 * KIB, 8192 * KIB])
def test_both_ways_to_find_folios_at_the_end_leave_the_same_cache(fs, nbytes, nothing_held):
    """BUF-5: phys_to_folio and the walk set the same flags of the same folios, over the same bytes."""
    left = []
    for completion in ("phys_to_folio", "folio_walk"):
        machine = Machine(ram="64 MiB", fragmentation=0, completion=completion, seed=3)
        machine.volume.mkfs(fs)
        machine.volume.create("f", nbytes)
        machine.volume.poke("/mnt/f", 0, bytes(range(256)) * (nbytes // 256))
        task = machine.task()
        fd, buf = task.open("/mnt/f", "O_RDWR"), task.mmap(nbytes, folio="64 KiB")
        assert task.pread(fd, buf, nbytes) == nbytes
        assert task.load(buf, nbytes) == bytes(range(256)) * (nbytes // 256)
        states = [state(machine)]
        task.store(buf, bytes(reversed(range(256))) * (nbytes // 512))
        assert task.pwrite(fd, buf, nbytes // 2, nbytes // 4) == nbytes // 2
        states.append(state(machine))
        task.fsync(fd)
        left.append([*states, state(machine), machine.volume.peek("/mnt/f", 0, nbytes)])
        nothing_held(machine)
    assert left[0] == left[1]
    assert any(flags & PG_dirty for _, _, flags, _ in left[0][1])
    assert not any(flags & PG_dirty for _, _, flags, _ in left[0][2])
    assert nbytes < 1 << 20 or any(order for _, order, _, _ in left[0][0])  # readahead begins with single pages


def state(machine):
    """Return (index, order, flags, bytes) of every folio of the cache."""
    (cache,) = machine.volume.caches()
    folios = cache.mapping.folios(0, 1 << 30)
    return [(f.index, f.order, f.flags, machine.ram.gather(((f.pfn << 12, 4096 << f.order),))) for f in folios]


def test_a_file_has_one_cache_however_often_it_is_opened():
    lab = Lab()
    assert len(list(lab.volume.caches())) == 1
    other = lab.machine.task()
    fd, buf = other.open("/mnt/f", "O_RDONLY"), other.mmap("4 KiB")
    lab.write(lab.cached, b"new!")
    assert other.pread(fd, buf, 4096) == 4096
    assert other.load(buf, 4) == b"new!"
    assert len(list(lab.volume.caches())) == 1


def test_a_device_and_its_cache_agree_too(nothing_held):
    machine = Machine(ram="64 MiB", check=True)
    task = machine.task()
    cached, direct, buf = task.open("/dev/nvme0n1", "O_RDWR"), task.open("/dev/nvme0n1"), task.mmap("4 KiB")
    task.store(buf, b"bdev" * 1024)
    task.pwrite(cached, buf, 4096)
    task.store(buf, bytes(4096))
    assert task.pread(direct, buf, 4096) == 4096
    assert task.load(buf, 4) == b"bdev" == machine.device.peek(0, 4)
    nothing_held(machine)


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/mnt/g", errno.ENOENT, "is no file here"),
        ("/dev/sda", errno.ENOENT, "is not there, only /dev/nvme0n1, /mnt/f"),
        ("", errno.ENOENT, "is not there"),
    ],
)
def test_what_is_not_there_is_ENOENT_with_what_is(path, code, words):
    with pytest.raises(SyscallError, match=words) as caught:
        Lab().task.open(path)
    assert caught.value.errno == code


def test_without_a_filesystem_there_is_no_file_and_there_is_never_a_second_one():
    machine = Machine(ram="64 MiB")
    with pytest.raises(SyscallError, match=r"is on no filesystem: the scenario has fs='raw' \(-ENODEV\)"):
        machine.task().open("/mnt/f", "O_RDWR|O_CREAT")
    with pytest.raises(BadInput, match=r"\(-EINVAL\)"):
        machine.volume.mkfs("btrfs")
    machine.volume.mkfs("xfs")
    with pytest.raises(SyscallError, match=r"mkfs: /dev/nvme0n1 has a filesystem already \(-EBUSY\)"):
        machine.volume.mkfs("xfs")


def test_a_refused_io_ends_with_its_errno_in_the_trace():
    lab = Lab()
    with pytest.raises(SyscallError):
        lab.task.pread(lab.direct, lab.buf, 100, 0)
    assert lab.machine.trace.of(SysExit)[-1].ret == -errno.EINVAL


class Crowd:
    """A machine with one file, and a task for each of `n` writers, whose bytes are A, B, C and on."""

    def __init__(self, n, fs="ext4", nbytes=0):
        self.machine = Machine(ram="96 MiB", fragmentation=0, check=True)
        self.volume, self.clock = self.machine.volume, self.machine.clock
        self.volume.mkfs(fs)
        self.inode = self.volume.create("f", nbytes)
        self.tasks = [self.machine.task() for _ in range(n)]

    def begin(self, i, nbytes, pos, flags="O_RDWR|O_DIRECT", *, write=True):
        task = self.tasks[i]
        buf = task.mmap(max(4096, nbytes))
        task.store(buf, bytes([65 + i]) * nbytes)
        return self.clock.job(task.syscalls.rw(task.open("/mnt/f", flags), buf, nbytes, pos, write=write))

    def end(self, *jobs):
        return [job.value if job.processed else self.clock.run(until=job) for job in jobs]

    def content(self, nbytes):
        task = self.machine.task()
        buf = task.mmap(65536)
        got = task.pread(task.open("/mnt/f", "O_RDWR"), buf, nbytes, 0)
        return task.load(buf, got)


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
@pytest.mark.parametrize("start", ["hole", "unwritten", "end"])
def test_rule_dio17c_parts_of_one_new_block_that_are_written_at_once_are_all_there(fs, start, nothing_held):
    crowd = Crowd(8, fs)
    if start == "unwritten":
        crowd.inode.fallocate(0, 4096)
    elif start == "hole":
        crowd.inode.truncate(4096)
    jobs = [crowd.begin(i, 512, 512 * i) for i in range(8)]
    assert crowd.end(*jobs) == [512] * 8
    assert crowd.content(4096) == b"".join(bytes([65 + i]) * 512 for i in range(8))
    nothing_held(crowd.machine)


@pytest.mark.parametrize("delay", range(0, 60_000, 6_000))
def test_a_direct_and_a_buffered_write_of_one_new_block_are_both_there(delay, nothing_held):
    crowd = Crowd(2)
    crowd.inode.truncate(4096)
    jobs = [crowd.begin(0, 512, 0)]
    crowd.clock.run(until=crowd.clock.now + delay + 1)
    jobs.append(crowd.begin(1, 512, 2048, "O_RDWR"))
    assert crowd.end(*jobs) == [512, 512]
    assert crowd.content(4096) == b"A" * 512 + bytes(1536) + b"B" * 512 + bytes(1536)
    nothing_held(crowd.machine)


@pytest.mark.parametrize(("flags", "nbytes"), [("|O_DIRECT", 4096), ("", 4096), ("", 100)])
def test_what_several_tasks_append_at_once_comes_one_behind_the_other(flags, nbytes, nothing_held):
    crowd = Crowd(4)
    jobs = [crowd.begin(i, nbytes, 0, "O_RDWR|O_APPEND" + flags) for i in range(4)]
    assert crowd.end(*jobs) == [nbytes] * 4
    assert sorted(crowd.content(16384)[::nbytes]) == [65, 66, 67, 68]
    assert crowd.inode.i_size == 4 * nbytes
    nothing_held(crowd.machine)


def test_overwrites_of_whole_blocks_go_on_at_the_same_time(nothing_held):
    crowd = Crowd(2, nbytes=65536)
    jobs = [crowd.begin(i, 4096, 4096 * i) for i in range(2)]
    crowd.clock.run(until=crowd.clock.now + 3000)
    assert (crowd.inode.i_rwsem.held, crowd.inode.i_rwsem.dios) == (2, 2)
    assert crowd.end(*jobs) == [4096, 4096]
    nothing_held(crowd.machine)


def test_who_may_not_wait_for_the_lock_of_a_file_is_told_EAGAIN(nothing_held):
    crowd = Crowd(2, nbytes=65536)
    crowd.inode.truncate(1 << 20)
    long = crowd.begin(0, 512, 65536 + 512)  # half a block of a hole: alone
    crowd.clock.run(until=crowd.clock.now + 3000)
    assert crowd.inode.i_rwsem.held == -1
    task = crowd.tasks[1]
    buf = task.mmap(4096)
    for flags, call in (("O_RDWR|O_DIRECT", task.pread), ("O_RDWR|O_DIRECT", task.pwrite), ("O_RDWR", task.pwrite)):
        with pytest.raises(SyscallError, match="-EAGAIN"):
            call(task.open("/mnt/f", flags), buf, 4096, 0, "RWF_NOWAIT")
    crowd.end(long)
    assert task.pread(task.open("/mnt/f"), buf, 4096, 0, "RWF_NOWAIT") == 4096
    nothing_held(crowd.machine)


@pytest.mark.parametrize("what", ["truncate", "punch", "fallocate", "unlink"])
def test_blocks_are_not_taken_from_under_a_direct_write(what, nothing_held):
    crowd = Crowd(1, nbytes=1 << 18)
    job = crowd.begin(0, 1 << 18, 0)
    crowd.clock.run(until=crowd.clock.now + 3000)
    do = {
        "truncate": lambda: crowd.inode.truncate(0),
        "punch": lambda: crowd.inode.punch_hole(0, 1 << 18),
        "fallocate": lambda: crowd.inode.fallocate(0, 1 << 20),
        "unlink": lambda: crowd.volume.filesystem.unlink("f"),
    }[what]
    with pytest.raises(SyscallError, match=r"has IO on its way, and nobody can wait for it here \(-EBUSY\)"):
        do()
    assert crowd.end(job) == [1 << 18]
    do()
    nothing_held(crowd.machine)


@pytest.mark.parametrize("stack", ["none", "partition", "stripe", "crypt"])
def test_a_look_at_a_device_ends_where_it_does(stack):
    with Machine(ram="64 MiB", stack=stack, profile={"nbytes": 1 << 22}) as machine:
        disk = machine.volume.disk
        machine.volume.poke(disk.path, disk.nbytes - 512, b"end!" * 256)
        assert machine.volume.peek(disk.path, disk.nbytes - 512, 4096) == b"end!" * 128
        assert machine.volume.peek(disk.path, disk.nbytes + 512, 4096) == b""


def test_an_extending_write_that_fails_leaves_no_block_behind_the_end(nothing_held):
    crowd = Crowd(1, nbytes=4096)
    before = crowd.volume.filesystem.df()
    task = crowd.tasks[0]
    buf = task.mmap("64 KiB")
    task.munmap(buf + 32768, 32768)
    with pytest.raises(SyscallError, match="-EFAULT"):
        task.pwrite(task.open("/mnt/f"), buf, 65536, 4096)
    assert (crowd.inode.i_size, crowd.volume.filesystem.df()) == (4096, before)
    assert task.pwrite(task.open("/mnt/f", "O_RDWR"), buf, 65536, 4096) == 32768
    assert crowd.volume.filesystem.df().reserved == 32768  # promised for what went, and nothing behind the end
    nothing_held(crowd.machine)


@pytest.mark.parametrize("path", ["/dev/nvme0n1", "/mnt/f"])
@pytest.mark.parametrize("delay", [0, 500, 5000])
def test_what_is_read_through_the_cache_during_a_direct_write_is_not_stale_afterwards(path, delay, nothing_held):
    machine = Machine(ram="96 MiB", fragmentation=0)
    machine.volume.mkfs("ext4")
    machine.volume.create("f", 1 << 20)
    one, other = machine.task(), machine.task()
    direct, cached = one.open(path), other.open(path, "O_RDWR")
    new, seen = one.mmap(65536), other.mmap(4096)
    one.store(new, b"N" * 65536)
    other.pread(cached, seen, 4096, 512 * KIB)  # there is a cache already
    machine.clock.job(one.syscalls.rw(direct, new, 65536, 0, write=True))
    machine.clock.run(until=machine.clock.now + delay + 1)
    machine.clock.job(other.syscalls.rw(cached, seen, 4096, 0, write=False))
    machine.clock.run()
    other.pread(cached, seen, 4096, 0)
    assert other.load(seen, 4096) == b"N" * 4096
    nothing_held(machine)


@pytest.mark.parametrize("sched", ["none", "mq-deadline", "bfq", "kyber"])
def test_rule_mq1_who_sleeps_for_a_dirty_page_sends_on_first_what_is_in_its_plug(sched, nothing_held):
    machine = Machine(ram="96 MiB", fragmentation=0, sched=sched, limits={"nr_requests": 1})
    machine.volume.mkfs("ext4")
    machine.volume.create("f", 1 << 20)
    task = machine.task()
    direct, cached, buf = task.open("/mnt/f"), task.open("/mnt/f", "O_RDWR"), task.mmap(65536)
    task.pwrite(cached, buf, 4096, 0)
    ring = task.aio()
    for at in range(2):
        ring.read(direct, buf + 8192 * at, 4096, 65536 + 16384 * at)
    ring.write(direct, buf, 4096, 0)
    assert sorted(cqe.res for cqe in ring.submit()) == [4096] * 3
    nothing_held(machine)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("flags", ["O_RDWR", "O_RDWR|O_DIRECT"])
@pytest.mark.parametrize("op", ["pread", "pwrite"])
def test_rule_mm11_a_fault_waits_for_a_page_that_is_being_read(system, flags, op, nothing_held):
    machine = Machine(ram="96 MiB", fragmentation=0, system=system)
    machine.volume.mkfs("ext4")
    for name in "fg":
        machine.volume.create(name, 1 << 20)
        machine.volume.poke(f"/mnt/{name}", 0, name.encode() * 65536)
    one, other = machine.task(), machine.task()
    mapped = other.mmap_fd(other.open("/mnt/f", "O_RDWR"), 1 << 20)
    job = machine.clock.job(one.syscalls.rw(one.open("/mnt/f", "O_RDWR"), one.mmap(65536), 65536, 0, write=False))
    machine.clock.run(until=machine.clock.now + 3000)
    assert getattr(other, op)(other.open("/mnt/g", flags), mapped, 65536, 0) == 65536
    if not job.processed:
        machine.clock.run(until=job)
    assert other.load(mapped, 65536) == (b"g" if op == "pread" else b"f") * 65536
    if op == "pwrite":
        other.fsync(other.open("/mnt/g", "O_RDWR"))
        assert machine.volume.peek("/mnt/g", 0, 65536) == b"f" * 65536
    nothing_held(machine)


def test_rule_mm11_a_store_waits_for_a_page_that_is_being_read(nothing_held):
    crowd = Crowd(2, nbytes=1 << 20)
    task = crowd.tasks[1]
    mapped = task.mmap_fd(task.open("/mnt/f", "O_RDWR"), 4096)
    crowd.begin(0, 65536, 0, "O_RDWR", write=False)
    crowd.clock.run(until=crowd.clock.now + 3000)
    task.store(mapped, b"x")
    assert task.load(mapped, 2) == b"x\0"
    later = task.mmap_fd(task.open("/mnt/f", "O_RDWR"), 65536, offset=1 << 19)
    crowd.begin(0, 65536, 1 << 19, "O_RDWR", write=False)
    crowd.clock.run(until=crowd.clock.now + 3000)
    assert task.load(later, 4) == bytes(4)
    nothing_held(crowd.machine)


def test_two_descriptors_of_a_file_each_have_readahead_of_their_own():
    crowd = Crowd(1, nbytes=8 << 20)
    task = crowd.tasks[0]
    one, other, buf = task.open("/mnt/f", "O_RDWR"), task.open("/mnt/f", "O_RDWR"), task.mmap(4096)
    for at in range(20):
        task.pread(one, buf, 4096, at * 4096)
        task.pread(other, buf, 4096, (4 << 20) + at * 4096)
    windows = [(rec.start, rec.size) for rec in crowd.machine.trace.of(PageCacheRaOrder)]
    assert [window for window in windows if window[0] < 1024] == [(0, 4), (4, 8), (12, 16), (28, 32)]
    assert [window for window in windows if window[0] >= 1024] == [
        (1024, 1),
        (1025, 4),
        (1029, 8),
        (1037, 16),
        (1053, 32),
    ]


def test_half_a_block_of_a_device_is_read_before_it_is_written_through_its_cache(nothing_held):
    machine = Machine(ram="64 MiB", fragmentation=0)
    task, path = machine.task(), machine.volume.disk.path
    machine.volume.poke(path, 0, b"o" * 4096)
    fd, buf = task.open(path, "O_RDWR"), task.mmap(4096)
    task.store(buf, b"n" * 512)
    task.pwrite(fd, buf, 512, 512)
    task.fsync(fd)
    assert [(rec.rwbs[0], rec.sector, rec.nr_sector) for rec in machine.trace.of(BlockBioQueue)][:2] == [
        ("R", 0, 8),
        ("W", 0, 8),
    ]
    assert machine.volume.peek(path, 0, 4096) == b"o" * 512 + b"n" * 512 + b"o" * 3072
    nothing_held(machine)
