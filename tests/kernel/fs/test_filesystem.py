"""A filesystem against the plainest model there is: files are lists of what each block holds."""

import contextlib

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from labkit.errors import BadInput, InvariantError, SyscallError
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.fs.filesystem import Align, Df, Filesystem, owners
from labkit.kernel.fs.space import Free, Refs

K = 4096
BASE = 96 << 10


def fs_of(kind="xfs", blocks=100, **more):
    return Filesystem(BASE + blocks * K, kind, **more)


def test_a_file_has_a_name_a_number_and_what_was_asked_for():
    fs = fs_of("ext4")
    first, second = fs.create("a", 10000), fs.create("b")
    assert (first.ino, second.ino, fs.open("a")) == (12, 13, first)
    assert first.fiemap() == [[0, BASE, 12288, ["LAST"]]]
    assert fs.df() == Df(100 * K, 3 * K, 97 * K, 0)
    fs.unlink("a")
    assert list(fs.files) == ["b"]
    assert fs.df() == Df(100 * K, 0, 100 * K, 0)


def test_the_longest_extent_is_that_of_the_kind():
    for kind, extents in (("ext4", [1 << 27, 1 << 27, K]), ("xfs", [(1 << 28) + K])):
        inode = Filesystem(1 << 30, kind).create("big", (1 << 28) + K)
        assert [row[2] for row in inode.fiemap()] == extents


@pytest.mark.parametrize(
    ("kind", "lbs", "align"),
    [
        ("ext4", 512, Align(512, 512, 512)),
        ("xfs", 512, Align(512, 4096, 512)),
        ("ext4", 4096, Align(512, 4096, 4096)),
    ],
)
def test_rule_dio_8_statx_tells_what_direct_io_wants(kind, lbs, align):
    fs = fs_of(kind, limits=QueueLimits(logical_block_size=lbs))
    fs.create("a")
    fs.create("journalled", dio=False)
    assert fs.statx("a") == align
    assert fs.statx("journalled") == Align(0, 0, 0)


def test_a_file_inside_its_inode_has_no_blocks_and_no_direct_io():
    fs = fs_of("ext4")
    fs.create("tiny", 33, inline=True)
    assert fs.df().used == 0
    assert fs.statx("tiny") == Align(0, 0, 0)
    assert fs.open("tiny").fiemap() == [[0, 16384 + 11 * 256 + 40, 33, ["DATA_INLINE", "NOT_ALIGNED", "LAST"]]]
    fs.check()


def test_a_file_lies_just_where_a_real_one_does():
    rows = [[0, 136323072, 4096, []], [8192, 136327168, 4096, []], [73728, 8896512, 20480, ["UNWRITTEN", "LAST"]]]
    fs = Filesystem(512 << 20)
    assert fs.create("real", extents=rows).fiemap() == rows
    assert fs.open("real").i_size == 94208
    fs.check()
    fs.unlink("real")
    short = fs.create("real", 10000, extents=rows)
    assert (short.i_size, [row[:3] for row in short.fiemap()]) == (10000, [row[:3] for row in rows[:2]])
    fs.check()


def test_a_file_may_be_one_hole():
    fs = fs_of()
    assert fs.create("hole", 10 * K, extents=[]).fiemap() == []
    assert (fs.open("hole").i_size, fs.df().used) == (10 * K, 0)


@pytest.mark.parametrize(
    "rows",
    [
        [[0, BASE, K, []], [0, BASE + K, K, []]],
        [[0, BASE, K, []], [K, BASE, K, []]],
        [[0, 0, K, []]],
        [[0, BASE, K, ["SHARED"]]],
        [[0, 0, K, ["DELALLOC", "UNKNOWN"]]],
        [[0, BASE, 512, []]],
        [[0, BASE + 200 * K, K, []]],
    ],
)
def test_extents_that_cannot_be_are_refused_and_nothing_is_left(rows):
    fs = fs_of()
    with pytest.raises(BadInput):
        fs.create("a", extents=rows)
    assert fs.files == {}
    assert fs.df() == Df(100 * K, 0, 100 * K, 0)
    fs.check()


def test_a_file_for_which_there_is_no_room_is_not_there():
    fs = fs_of()
    with pytest.raises(SyscallError, match=r"xfs: 413696 bytes do not fit: 409600 are free \(-ENOSPC\)"):
        fs.create("a", 101 * K)
    assert fs.files == {}
    fs.check()


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda fs: fs.open("b"), "open: b is no file here (-ENOENT)"),
        (lambda fs: fs.unlink("b"), "open: b is no file here (-ENOENT)"),
        (lambda fs: fs.create("a"), "open: a exists already (-EEXIST)"),
        (lambda fs: fs.reflink("a", "b"), "ioctl: ext4 cannot share blocks between files (-EOPNOTSUPP)"),
        (lambda fs: fs.create("b", 61, inline=True),
         "open: 61 bytes on ext4 do not lie inside an inode: ext4 has room for 1 to 60 (-EINVAL)"),
        (lambda _: fs_of("btrfs"), "mkfs: kind='btrfs' is not one of ext4, xfs (-EINVAL)"),
        (lambda _: fs_of(block_size=8192), "mkfs: block_size=8192 is not a power of two from 512 to 4096 (-EINVAL)"),
        (lambda _: fs_of(block_size=3072), "mkfs: block_size=3072 is not a power of two from 512 to 4096 (-EINVAL)"),
        (lambda _: fs_of(blocks=0), "mkfs: 98304 bytes are less than 102400 (-EINVAL)"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(act, told):
    fs = fs_of("ext4")
    fs.create("a")
    with pytest.raises((SyscallError, BadInput)) as caught:
        act(fs)
    assert str(caught.value) == told


def test_inodes_end_before_the_data_begins():
    fs = fs_of("ext4")
    for number in range(309):
        fs.create(str(number), 1, inline=True)
    assert fs.open("308").fiemap()[0][1] + 60 <= BASE
    with pytest.raises(SyscallError, match="finds no inode"):
        fs.create("one more", 1, inline=True)


def test_a_copy_shares_what_is_written_until_one_of_them_is():
    fs = fs_of()
    source = fs.create("a", 8 * K)
    source.fallocate(8 * K, K)
    copy = fs.reflink("a", "b")
    assert copy.i_size == 9 * K
    assert copy.fiemap() == [[0, BASE, 8 * K, ["SHARED", "LAST"]]]
    assert fs.df().used == 9 * K
    assert copy.iomap_begin(2 * K, 2 * K, write=True).shared
    copy.end_io(2 * K, 2 * K, unwritten=True, extend=False)
    assert source.fiemap()[:3] == [
        [0, BASE, 2 * K, ["SHARED"]], [2 * K, BASE + 2 * K, 2 * K, []], [4 * K, BASE + 4 * K, 4 * K, ["SHARED"]],
    ]  # fmt: skip
    with pytest.raises(SyscallError, match="ENOTBLK"):
        copy.iomap_begin(512, K, write=True)
    fs.check()
    fs.unlink("a")
    assert copy.iomap_begin(512, K, write=True) == (*("mapped", 0, 2 * K, BASE), False, False, True)
    fs.check()


def test_what_is_not_written_back_is_not_shared():
    fs = fs_of()
    fs.create("a").iomap_begin(0, K, write=True, direct=False)
    with pytest.raises(SyscallError, match=r"ioctl: a has not been written back \(-EBUSY\)"):
        fs.reflink("a", "b")
    assert list(fs.files) == ["a"]


def lose_a_block(fs):
    fs.space.free.splice(BASE + 50 * K, BASE + 51 * K)


def free_a_block_that_is_used(fs):
    fs.space.free.splice(BASE, BASE + K, [Free(BASE, K)])


def share_a_block_with_nobody(fs):
    fs.space.refs.splice(BASE, BASE + K, [Refs(BASE, K, 2)])


def promise_a_block_to_nobody(fs):
    fs.space.reserved += K


def count_one_block_more(fs):
    fs.space.nr_free += K


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lose_a_block, "blocks are free"),
        (free_a_block_that_is_used, "blocks are free"),
        (share_a_block_with_nobody, "blocks are shared"),
        (promise_a_block_to_nobody, "bytes are promised"),
        (count_one_block_more, "bytes are free"),
    ],
)
def test_what_does_not_add_up_is_found(break_it, words):
    fs = fs_of()
    fs.create("a", 8 * K)
    fs.check()
    break_it(fs)
    with pytest.raises(InvariantError, match=words):
        fs.check()


def test_owners_of_each_byte_are_counted():
    assert owners([(0, 10), (5, 20), (5, 10), (20, 30), (40, 50)]) == [
        (0, 5, 1), (5, 10, 3), (10, 30, 1), (40, 50, 1),
    ]  # fmt: skip


_NAMES, _BLOCKS, _VALUE = st.sampled_from("abcd"), st.integers(0, 15), st.integers(1, 10**9)
_COUNT = st.integers(1, 8)


class Life(RuleBasedStateMachine):
    """Some files on a small device: `disk` holds a value for each block, `files` what a reader must find."""

    @initialize(
        blocks=st.integers(10, 60), fragmentation=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 9),
        delalloc=st.booleans(),
    )  # fmt: skip
    def mkfs(self, blocks, fragmentation, seed, delalloc):
        self.fs = fs_of("xfs", blocks, fragmentation=fragmentation, seed=seed, delalloc=delalloc)
        self.disk, self.files, self.cache = {}, {}, {}

    def file(self, name):
        if name not in self.files:
            self.fs.create(name)
            self.files[name] = {}
        return self.fs.open(name)

    def mappings(self, inode, first, count, **how):
        """Yield (block, place on the device, iomap) for each block, mapping after mapping."""
        at = first
        while at < first + count:
            found = inode.iomap_begin(at * K, (first + count - at) * K, **how)
            for block in range(at, (found.offset + found.length) // K):
                yield block, found.addr + block * K - found.offset, found
            at = (found.offset + found.length) // K

    @rule(name=_NAMES, first=_BLOCKS, count=_COUNT, value=_VALUE, fails=st.booleans())
    def write_direct(self, name, first, count, value, fails):
        inode = self.file(name)
        self.write_back(name)
        with contextlib.suppress(SyscallError):  # ENOSPC, as it comes
            for block, place, found in self.mappings(inode, first, count, write=True):
                assert not self.fs.space.shared(place, K)[0]
                self.disk[place] = (value, block)
                if found.type == "mapped" and not found.shared:
                    self.files[name][block] = (value, block)
            if not fails:
                inode.end_io(first * K, count * K, unwritten=True, extend=True)
                self.files[name] |= {block: (value, block) for block in range(first, first + count)}

    @rule(name=_NAMES, first=_BLOCKS, count=_COUNT, value=_VALUE)
    def write_buffered(self, name, first, count, value):
        inode = self.file(name)
        with contextlib.suppress(SyscallError):
            for block, _, _ in self.mappings(inode, first, count, write=True, direct=False):
                self.cache[name, block] = self.files[name][block] = (value, block)
                inode.i_size = max(inode.i_size, (block + 1) * K)

    @rule(name=_NAMES)
    def write_back(self, name):
        """Nothing that was promised can fail."""
        for key in [key for key in self.cache if key[0] == name]:
            found = self.fs.open(name).map_blocks(key[1] * K, K)
            assert not self.fs.space.shared(found.addr, K)[0]
            self.disk[found.addr] = self.cache.pop(key)
            self.fs.open(name).end_io(key[1] * K, K, unwritten=True, extend=False)

    def forget(self, name, first, last):
        for block in [block for block in self.files[name] if first <= block < last]:
            del self.files[name][block]
            self.cache.pop((name, block), None)

    @rule(name=_NAMES, blocks=st.integers(0, 20))
    def truncate(self, name, blocks):
        self.file(name).truncate(blocks * K)
        self.forget(name, blocks, 1 << 60)

    @rule(name=_NAMES, first=_BLOCKS, count=_COUNT)
    def punch(self, name, first, count):
        assert self.file(name).punch_hole(first * K, count * K) == []
        self.forget(name, first, first + count)

    @rule(name=_NAMES, first=_BLOCKS, count=_COUNT, keep=st.booleans())
    def fallocate(self, name, first, count, keep):
        df, rows = self.fs.df(), self.file(name).fiemap()
        try:
            self.fs.open(name).fallocate(first * K, count * K, keep_size=keep)
        except SyscallError:  # ENOSPC
            assert (self.fs.df(), self.fs.open(name).fiemap()) == (df, rows)

    @rule(name=_NAMES, copy=_NAMES)
    def reflink(self, name, copy):
        self.file(name)
        self.write_back(name)
        if copy not in self.files:
            with contextlib.suppress(SyscallError):  # EBUSY: what a failed buffered write was promised
                self.fs.reflink(name, copy)
                self.files[copy] = dict(self.files[name])

    @rule(name=_NAMES)
    def unlink(self, name):
        self.file(name)
        self.fs.unlink(name)
        self.forget(name, 0, 1 << 60)
        del self.files[name]

    @invariant()
    def everything_adds_up_and_every_reader_finds_what_was_written(self):
        if not hasattr(self, "fs"):
            return
        self.fs.check()
        for name, want in self.files.items():
            found = {}
            for block, place, iomap in self.mappings(self.fs.open(name), 0, 30, write=False):
                if (name, block) in self.cache:
                    found[block] = self.cache[name, block]
                elif iomap.type == "mapped":
                    found[block] = self.disk[place]
            assert found == want

    def teardown(self):
        if hasattr(self, "fs"):
            for name in list(self.fs.files):
                self.fs.unlink(name)
            df = self.fs.df()
            assert (df.used, df.free, df.reserved) == (0, df.total, 0)
            self.fs.check()


Life.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestLife = Life.TestCase


def test_how_much_is_the_filesystems_own_may_be_told():
    fs = Filesystem(1 << 20, "xfs", taken=8192)
    fs.create("low", extents=[[0, 8192, 4096, []]])
    fs.check()
    assert fs.df().total == (1 << 20) - 8192
    with pytest.raises(BadInput, match="is not free"):
        Filesystem(1 << 20, "xfs").create("low", extents=[[0, 8192, 4096, []]])
