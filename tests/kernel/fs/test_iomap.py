"""Direct IO over the extents of a file: a list of them, a cache that only takes notes, a medium of bytes."""

import errno
from types import SimpleNamespace

import pytest

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.bio import Op
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.currency.ops import Kiocb
from labkit.kernel.fs.iomap import IomapFile
from labkit.kernel.fs.ops import NO_FLAGS, Iocb, Iomap, Taken
from labkit.kernel.fs.submission import Submission, Submitter
from labkit.kernel.version import KERNELS
from labkit.machine.build import DATA
from labkit.scatter.phyr import phyrs_of

CPU = Cpu.load(DATA / "cpu.toml")
ZEROS, USER = 0x10_0000, 0x20_0000
KIB4 = 4096


class Inode:
    """A file of `extents`, which tells when its blocks become written, and when it grows."""

    ino, block_size = 12, KIB4

    def __init__(self, extents, i_size, story):
        self.extents, self.i_size, self.story = extents, i_size, story

    def iomap_begin(self, pos, length, *, write, nowait=False):
        self.story.append(("begin", pos, length, write, nowait))
        for each in self.extents:
            if isinstance(each, SyscallError):
                raise each
            if each.offset <= pos < each.offset + each.length:
                return each
        starts = [each.offset for each in self.extents if each.offset > pos]
        return Iomap("hole", pos, min([length, *(start - pos for start in starts)]))

    def end_io(self, pos, nbytes, *, unwritten, extend):
        self.story.append(("end_io", pos, nbytes, unwritten, extend))
        if extend:
            self.i_size = max(self.i_size, pos + nbytes)


class Cache:
    """Notes what is asked of it; raises what `raises` has for the n-th call of a name."""

    def __init__(self, story, *, dirty=False, raises=None):
        self.story, self.dirty, self.raises, self.calls = story, dirty, raises or {}, []

    def needs_writeback(self, _pos, _nbytes):
        return self.dirty

    def _note(self, name, *args):
        self.story.append((name, *args))
        self.calls.append(name)
        if (name, self.calls.count(name)) in self.raises:
            raise SyscallError("filemap", name, "fails", self.raises[name, self.calls.count(name)])
        yield 1

    def write_and_wait_range(self, _io, pos, nbytes):
        return self._note("write_and_wait", pos, nbytes)

    def invalidate_range(self, _io, pos, nbytes):
        return self._note("invalidate", pos, nbytes)

    def i_size_changed(self):
        pass

    def fsync(self, _io):
        return self._note("fsync")


class Medium:
    """A device that moves bytes a while after a bio came, and fails those whose sector is in `bad`."""

    def __init__(self, clock, story, bad=(), **limits):
        self.clock, self.story, self.bad, self.limits = clock, story, dict(bad), QueueLimits(**limits)
        self.ram, self.media, self.bios = bytearray(4 << 20), bytearray(b"\xaa" * (1 << 20)), []

    def submit_bio(self, bio, plug=None):
        yield 1
        self.bios.append(bio)
        self.story.append(("bio", bio.sector, bio.nbytes))
        self.plugged = plug is not None
        self.clock.later(100 * len(self.bios), self.end, bio)

    def end(self, bio):
        at = bio.sector << 9
        for addr, n in bio.payload.vecs if bio.sector not in self.bad else ():
            if bio.write:
                self.media[at : at + n] = self.ram[addr : addr + n]
            else:
                self.ram[addr : addr + n] = self.media[at : at + n]
            at += n
        bio.endio(self.bad.get(bio.sector, 0))

    def flush(self, plug, *, from_schedule=False):
        yield from plug.flush(from_schedule=from_schedule)


class Iter:
    """User memory at USER, at most `step` bytes for a bio, which cannot be had from byte `end` on."""

    in_parts = False

    def __init__(self, ram, nbytes, *, step=1 << 20, end=1 << 30, aligned=True):
        self.ram, self.at, self.nbytes, self.step, self.end, self._aligned = ram, 0, nbytes, step, end, aligned

    @property
    def left(self):
        return self.nbytes - self.at

    def npages(self):
        return -(-self.left // KIB4)

    def aligned(self, _address, _length):
        return self._aligned

    def take(self, nbytes):
        yield 1
        nbytes = min(nbytes, self.step, self.end - self.at)
        if nbytes <= 0 or not self._aligned:
            raise SyscallError("gup", "memory", "cannot be had", errno.EFAULT if self._aligned else errno.EINVAL)
        self.at += nbytes
        return Taken(phyrs_of([USER + self.at - nbytes], [nbytes]))

    def zero(self, nbytes):
        yield 1
        nbytes = min(nbytes, self.end - self.at)
        self.ram[USER + self.at : USER + self.at + nbytes] = bytes(nbytes)
        self.at += nbytes
        if self.at >= self.end:
            raise SyscallError("gup", "memory", "cannot be written", errno.EFAULT)


class World:
    def __init__(self, *extents, i_size=1 << 20, kernel="7.3", bad=(), cache=None, **limits):
        self.clock, self.story, self.raw = Clock(), [], []
        self.medium = Medium(self.clock, self.story, bad, **limits)
        self.inode = Inode(extents, i_size, self.story)
        self.cache = Cache(self.story, **(cache or {}))
        by = Submitter(self.clock, CPU, self.raw.append, KERNELS[kernel])
        self.file = IomapFile("/f", self.inode, self.cache, self.medium, by, ZEROS)

    def io(self, pos, nbytes, *, write=False, flags=NO_FLAGS, **memory):
        """Do one IO; return the bytes moved, or the name of the errno."""
        mm = SimpleNamespace(task=0)
        iocb = Kiocb(1, mm, "pread64", 0x7000, nbytes, pos, write, self.medium.limits, flags=flags)
        sub = Submission(iocb, self.medium, self.file.by)
        self.medium.ram[USER : USER + nbytes] = b"u" * nbytes

        def work():
            yield from self.file.dio_submit(sub, Iter(self.medium.ram, nbytes, **memory))
            yield from sub.wait()
            return (yield from self.file.dio_complete(sub))

        try:
            return self.clock.run(until=self.clock.job(work()))
        except SyscallError as bad:
            self.bad = bad
            return bad.errno_name

    def told(self, name):
        return [raw[4:] for raw in self.raw if raw[0] == name]

    def user(self, nbytes):
        return bytes(self.medium.ram[USER : USER + nbytes])


def mapped(offset, length, addr, **words):
    return Iomap("mapped", offset, length, addr, **words)


def test_the_order_of_a_write_from_the_cache_to_the_cache_again():
    world = World(mapped(0, 8192, 0x4000))
    assert world.io(0, 4096, write=True, flags=Iocb.DSYNC | Iocb.SYNC) == 4096
    assert world.story == [
        ("write_and_wait", 0, 4096), ("invalidate", 0, 4096), ("begin", 0, 4096, True, False), ("bio", 32, 4096),
        ("end_io", 0, 4096, False, False), ("invalidate", 0, 4096), ("fsync",),
    ]  # fmt: skip
    assert world.told("IomapDioComplete") == [(0, 0, 4096)]
    assert bytes(world.medium.media[0x4000:0x5000]) == b"u" * 4096


def test_the_order_of_a_read_drops_nothing():
    world = World(mapped(0, 8192, 0x4000))
    assert world.io(0, 8192) == 8192
    assert world.story == [("write_and_wait", 0, 8192), ("begin", 0, 8192, False, False), ("bio", 32, 8192)]
    assert world.user(8192) == b"\xaa" * 8192


def test_extents_follow_each_other_and_holes_between_them_are_zeros_without_a_bio():
    world = World(mapped(0, 4096, 0x4000), Iomap("unwritten", 4096, 4096, 0x8000), mapped(12288, 4096, 0xC000))
    assert world.io(0, 16384) == 16384
    assert [(bio.sector, bio.nbytes, bio.start) for bio in world.medium.bios] == [(32, 4096, 0), (96, 4096, 12288)]
    assert world.user(16384) == b"\xaa" * 4096 + bytes(8192) + b"\xaa" * 4096
    assert [raw[3:] for raw in world.raw if raw[0] == "IovIterZero"] == [(4096, 4096), (8192, 4096)]


def test_rule_dio11_an_extent_takes_as_many_bios_as_memory_needs():
    world = World(mapped(0, 16384, 0x4000))
    assert world.io(0, 16384, write=True, step=4096) == 16384
    assert [bio.sector for bio in world.medium.bios] == [32, 40, 48, 56]


@pytest.mark.parametrize("kind", [{"type": "unwritten"}, {"type": "mapped", "new": True}], ids=["unwritten", "new"])
@pytest.mark.parametrize(("pos", "nbytes"), [(512, 1024), (0, 512), (3584, 512), (3584, 1024), (512, 4096 + 512)])
def test_rule_dio10_the_rest_of_a_fresh_block_becomes_zeros_to_the_byte(kind, pos, nbytes):
    world = World(Iomap(offset=0, length=8192, addr=0x4000, **kind), i_size=8192)
    assert world.io(pos, nbytes, write=True) == nbytes
    first, last = pos // 4096 * 4096, -(-(pos + nbytes) // 4096) * 4096
    block = bytes(pos - first) + b"u" * nbytes + bytes(last - pos - nbytes)
    expected = b"\xaa" * (0x4000 + first) + block + b"\xaa" * ((1 << 20) - 0x4000 - last)
    assert bytes(world.medium.media) == expected
    assert ("end_io", pos, nbytes, kind["type"] == "unwritten", False) in world.story


def test_rule_dio10_a_block_that_is_written_keeps_its_rest_but_beyond_the_end_of_the_file():
    world = World(mapped(0, 8192, 0x4000), i_size=8192)
    world.io(512, 512, write=True)
    assert bytes(world.medium.media[0x4000:0x5000]) == b"\xaa" * 512 + b"u" * 512 + b"\xaa" * 3072
    world = World(mapped(0, 8192, 0x4000), i_size=4096)
    assert world.io(4096, 512, write=True) == 512
    assert bytes(world.medium.media[0x5000:0x6000]) == b"u" * 512 + bytes(3584)
    assert ("end_io", 4096, 512, False, True) in world.story


def test_rule_dio10_a_write_that_ends_early_leaves_no_stale_byte_in_its_block():
    world = World(Iomap("unwritten", 0, 8192, 0x4000))
    assert world.io(0, 8192, write=True, end=512) == "-EFAULT"
    assert bytes(world.medium.media[0x4000:0x5000]) == b"u" * 512 + bytes(3584)


@pytest.mark.parametrize(
    ("pos", "nbytes", "moved"), [(0, 8192, 5000), (4096, 4096, 904), (4096, 512, 512), (0, 512, 512)]
)
def test_rule_dio12_a_read_is_short_at_the_end_of_the_file(pos, nbytes, moved):
    assert World(mapped(0, 8192, 0x4000), i_size=5000).io(pos, nbytes) == moved


def test_a_read_that_begins_at_the_end_is_no_io():
    file = World(mapped(0, 8192, 0x4000), i_size=5000).file
    assert [file.check("pread64", pos, 4096, write=False) for pos in (4999, 5000, 9000)] == [4096, 0, 0]
    assert file.check("pwrite64", 9000, 4096, write=True) == 4096


@pytest.mark.parametrize(("found", "write", "error"), [
    (Iomap("delalloc", 0, 8192), False, "-EIO"), (Iomap("delalloc", 0, 8192), True, "-EIO"),
    (Iomap("hole", 0, 8192), True, "-EIO"),
    (SyscallError("fs", "a file", "has no direct IO", errno.ENOTBLK), False, "-ENOTBLK"),
    (SyscallError("fs", "a file", "would allocate", errno.EAGAIN), True, "-EAGAIN"),
    (SyscallError("fs", "a file", "has no room", errno.ENOSPC), True, "-ENOSPC"),
])  # fmt: skip
def test_mappings_that_direct_io_cannot_use(found, write, error):
    world = World(found, kernel="6.18")
    assert world.io(0, 4096, write=write) == error
    assert world.medium.bios == []


@pytest.mark.parametrize(("pos", "nbytes"), [(100, 512), (512, 100), (256, 256)])
def test_rule_dio10_an_extent_is_addressed_in_logical_blocks(pos, nbytes):
    world = World(mapped(0, 8192, 0x4000))
    assert world.io(pos, nbytes) == "-EINVAL"
    assert "DIO-10" in str(world.bad)


def test_rule_dio14_a_bio_that_fails_fails_all_and_it_is_told():
    world = World(mapped(0, 16384, 0x4000), bad={40: errno.ENODATA})
    assert world.io(0, 16384, write=True, step=4096) == "-ENODATA"
    assert world.told("IomapDioComplete") == [(0, -errno.ENODATA, -errno.ENODATA)]
    assert not any(name == "end_io" for name, *_ in world.story)
    assert [name for name, *_ in world.story].count("invalidate") == 1


def test_rule_dio14_memory_that_ends_early_fails_all_though_the_first_bio_was_done():
    world = World(mapped(0, 8192, 0x4000))
    assert world.io(0, 8192, write=True, end=4096) == "-EFAULT"
    assert bytes(world.medium.media[0x4000:0x5000]) == b"u" * 4096
    assert world.told("IomapDioComplete") == [(0, -errno.EFAULT, -errno.EFAULT)]


def test_rule_dio12_the_first_error_in_time_is_the_one():
    world = World(mapped(0, 8192, 0x4000), bad={32: errno.ENODATA, 40: errno.EIO})
    world.clock.later = lambda delay, *call, later=world.clock.later: later(10_000 - delay, *call)
    assert world.io(0, 8192, write=True, step=4096) == "-EIO"


@pytest.mark.parametrize("skewed", ["6.1", "6.12", "6.18", "7.3"])
def test_rule_dio15_a_hole_asks_for_no_alignment_and_data_does(skewed):
    assert World(Iomap("hole", 0, 8192), kernel=skewed).io(0, 4096, aligned=False) == 4096
    assert World(mapped(0, 8192, 0x4000), kernel=skewed).io(0, 4096, aligned=False) == "-EINVAL"


def test_rule_dio15_a_hole_that_cannot_be_written_to_the_user_is_efault():
    world = World(Iomap("hole", 0, 8192))
    assert world.io(0, 8192, end=4096) == "-EFAULT"
    assert world.medium.bios == []


@pytest.mark.parametrize(
    ("flags", "limits", "found", "fua", "synced"),
    [
        (Iocb.DSYNC, {}, {}, True, False),
        (Iocb.DSYNC, {"write_cache": True, "fua": True}, {}, True, False),
        (Iocb.DSYNC, {"write_cache": True}, {}, False, True),
        (Iocb.DSYNC, {}, {"new": True}, False, True),
        (Iocb.DSYNC, {}, {"dirty": True}, False, True),
        (Iocb.DSYNC, {}, {"shared": True}, False, True),
        (Iocb.DSYNC | Iocb.SYNC, {}, {}, False, True),
        (NO_FLAGS, {}, {}, False, False),
    ],
)
def test_a_write_that_is_to_last_goes_with_fua_or_is_synced_in_the_end(flags, limits, found, fua, synced):
    world = World(mapped(0, 8192, 0x4000, **found), **limits)
    assert world.io(0, 4096, write=True, flags=flags) == 4096
    assert bool(world.medium.bios[0].opf & Op.FUA) is fua
    assert (("fsync",) in world.story) is synced


def test_one_extent_without_fua_is_enough_for_a_sync():
    world = World(mapped(0, 4096, 0x4000), mapped(4096, 4096, 0x9000, new=True))
    assert world.io(0, 8192, write=True, flags=Iocb.DSYNC) == 8192
    assert [bool(bio.opf & Op.FUA) for bio in world.medium.bios] == [True, False]
    assert ("fsync",) in world.story


def test_rule_dio18_who_may_not_wait_gets_eagain_for_dirty_pages():
    world = World(mapped(0, 8192, 0x4000), cache={"dirty": True})
    assert world.io(0, 4096, flags=Iocb.NOWAIT) == "-EAGAIN"
    assert world.story == []


@pytest.mark.parametrize(("error", "flags", "told"), [
    (errno.EBUSY, NO_FLAGS, "-ENOTBLK"), (errno.EBUSY, Iocb.ATOMIC, "-EAGAIN"), (errno.EAGAIN, NO_FLAGS, "-EAGAIN"),
])  # fmt: skip
def test_rule_dio18_pages_that_cannot_be_dropped_make_a_write_a_buffered_one(error, flags, told):
    world = World(mapped(0, 8192, 0x4000), cache={"raises": {("invalidate", 1): error}})
    assert world.io(0, 4096, write=True, flags=flags) == told
    assert world.medium.bios == []


def test_rule_dio18_pages_that_came_back_meanwhile_are_no_error():
    world = World(mapped(0, 8192, 0x4000), cache={"raises": {("invalidate", 2): errno.EBUSY}})
    assert world.io(0, 4096, write=True) == 4096
    assert world.told("IomapDioComplete") == [(0, 0, 4096)]


def test_what_direct_io_cannot_do_behind_its_first_extent_is_left_to_the_caller():
    world = World(mapped(0, 4096, 0x4000))
    world.inode.iomap_begin = lambda pos, length, begin=world.inode.iomap_begin, **named: (
        begin(pos, length, **named) if not pos else no_dio()
    )
    assert world.io(0, 8192, write=True) == 4096
    assert ("end_io", 0, 4096, False, False) in world.story


def no_dio():
    raise SyscallError("fs", "a file", "has no direct IO here", errno.ENOTBLK)


@pytest.mark.parametrize(("extents", "step", "result"), [
    ([mapped(0, 8192, 0x4000)], 8192, 8192), ([mapped(0, 4096, 0x4000), mapped(4096, 4096, 0x9000)], 8192, "-EINVAL"),
    ([mapped(0, 8192, 0x4000)], 4096, "-EINVAL"),
])  # fmt: skip
def test_an_atomic_write_is_one_bio_in_one_extent(extents, step, result):
    world = World(*extents)
    assert world.io(0, 8192, write=True, flags=Iocb.ATOMIC, step=step) == result
    assert all(bio.opf & Op.ATOMIC for bio in world.medium.bios)
    assert len(world.medium.bios) == (1 if result == 8192 else 0)


@pytest.mark.parametrize(("kernel", "found", "nbytes", "write", "plugged"), [
    ("7.3", mapped(0, 8192, 0x4000), 4096, False, False), ("7.3", mapped(0, 8192, 0x4000), 8192, False, True),
    ("7.3", mapped(0, 8192, 0x4000), 4096, True, True), ("6.18", mapped(0, 8192, 0x4000), 4096, False, True),
    ("7.3", mapped(0, 512, 0x4000), 1024, False, True),
])  # fmt: skip
def test_rule_dio17b_a_small_read_of_73_has_no_plug(kernel, found, nbytes, write, plugged):
    world = World(found, kernel=kernel)
    assert world.io(0, nbytes, write=write) == nbytes
    assert world.medium.plugged is plugged
