import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.kernel.syscall import table
from labkit.machine import Machine
from labkit.trace.events import BlockBioQueue, GupPin, SysEnter, SysExit

END = 16 << 30


SYSTEMS = ["phyr", "page 6.1", "page 6.12", "page 6.18", "page 7.3", "unified 6.18", "unified 7.3"]


def machine_of(name, **knobs):
    system, _, kernel = name.partition(" ")
    return Machine(system=system, kernel=kernel or "7.3", ram="64 MiB", fragmentation=0, **knobs)


@pytest.fixture(params=SYSTEMS)
def world(request):
    machine = machine_of(request.param)
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
    assert table.MAX_RW_COUNT == 0x7FFFF000
    monkeypatch.setattr(table, "MAX_RW_COUNT", 8192)
    assert task.pread(fd, buf, 65536) == 8192
    assert machine.trace.of(BlockBioQueue)[0].nr_sector == 16


def test_sizes_may_be_text(world):
    _, task, buf, fd = world
    assert task.pwrite(fd, buf, "8 KiB", "1 MiB") == 8192


def outcome(call, *args, **named):
    """Return the bytes that came, or the name of the errno."""
    try:
        return call(*args, **named)
    except SyscallError as bad:
        return bad.errno_name


def test_rule_iter3_empty_pieces_are_passed_over_and_none_at_all_are_no_bytes(world):
    machine, task, buf, fd = world
    assert task.preadv(fd, [(0, 0), (buf, 512), (0xDEAD, 0), (buf + 512, 3584)], 0) == 4096
    assert machine.trace.of(SysEnter)[-1].iov == ((0, 0), (buf, 512), (0xDEAD, 0), (buf + 512, 3584))
    assert [task.preadv(fd, iov, 0) for iov in ([], [(0, 0)], [(buf, 0), (buf, 0)])] == [0, 0, 0]
    assert [rec.name for rec in machine.trace.of(SysEnter)] == ["preadv"] * 4


@pytest.mark.parametrize(("pieces", "result"), [(1023, 1023 * 512), (1024, 1024 * 512), (1025, "-EINVAL")])
def test_rule_iter3_a_call_has_1024_pieces_at_most(world, pieces, result):
    machine, task, buf, fd = world
    iov = [(buf + at % 128 * 512, 512) for at in range(pieces)]
    assert outcome(task.pwritev, fd, iov, 0) == result
    assert machine.trace.of(SysExit)[-1].ret == (result if isinstance(result, int) else -22)


def test_rule_iter3_the_last_piece_is_cut_where_a_call_is_full(world, monkeypatch):
    _, task, buf, fd = world
    monkeypatch.setattr(table, "MAX_RW_COUNT", 8192)
    assert task.preadv(fd, [(buf, 4096), (buf + 4096, 61440), (buf, 4096)], 0) == 8192


def test_a_negative_position_a_strange_descriptor_and_strange_flags_are_refused_before_anything_else(world):
    machine, task, buf, fd = world
    assert outcome(task.pread, fd, buf, 512, -512) == "-EINVAL"
    assert outcome(task.pread, 99, buf, 512, -512) == "-EINVAL"
    assert outcome(task.pread, 99, buf, 512) == "-EBADF"
    assert outcome(task.pwrite, task.open("/dev/nvme0n1", "O_RDONLY|O_DIRECT"), buf, 512) == "-EBADF"
    assert outcome(task.pread, fd, buf, 512, 0, "RWF_COFFEE") == "-EOPNOTSUPP"
    assert machine.trace.of(BlockBioQueue) == ()


@pytest.mark.parametrize("flags", ["RWF_HIPRI", "RWF_DSYNC", "RWF_SYNC", "RWF_NOWAIT", "RWF_DSYNC|RWF_NOWAIT"])
def test_flags_that_change_no_byte_and_no_count(world, flags):
    machine, task, buf, fd = world
    task.store(buf, b"f" * 4096)
    assert task.pwrite(fd, buf, 4096, 8192, flags) == 4096
    assert machine.device.peek(8192, 4096) == b"f" * 4096
    assert task.pread(fd, buf, 4096, 8192, flags) == 4096


def test_rwf_append_writes_at_the_end_where_a_device_has_no_room(world):
    _, task, buf, fd = world
    assert outcome(task.pwrite, fd, buf, 4096, 0, "RWF_APPEND") == "-ENOSPC"
    assert task.pread(fd, buf, 4096, 0, "RWF_APPEND") == 4096


def test_rule_r20_who_may_not_wait_gets_eagain_for_what_would_be_split(world):
    machine, task, _, fd = world
    buf = task.mmap("2 MiB")
    result = outcome(task.pread, fd, buf, "2 MiB", 0, "RWF_NOWAIT")
    assert result == "-EAGAIN"
    assert machine.ledger.held == {}


UNIT = 1 << 14
"""An atomic write of the machine below is 512 bytes to 16 KiB."""


@pytest.mark.parametrize(
    ("pos", "nbytes", "result"),
    [
        (0, 512, 512), (0, 16384, 16384), (16384, 16384, 16384), (8192, 16384, "-EINVAL"), (0, 1536, "-EINVAL"),
        (0, 32768, "-EINVAL"), (0, 256, "-EINVAL"), (END - 4096, 8192, "-EINVAL"), (END, 4096, "-ENOSPC"),
        (END, 3000, "-ENOSPC"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("system", SYSTEMS)
def test_an_atomic_write_is_a_power_of_two_at_a_multiple_of_itself(system, pos, nbytes, result):
    machine = machine_of(system, limits={"atomic_write_unit_min": 512, "atomic_write_unit_max": UNIT})
    task = machine.task()
    fd, buf = task.open("/dev/nvme0n1"), task.mmap("64 KiB")
    assert outcome(task.pwrite, fd, buf, nbytes, pos, "RWF_ATOMIC") == result
    assert outcome(task.pread, fd, buf, 4096, 0, "RWF_ATOMIC") == "-EOPNOTSUPP"
    assert len(machine.trace.of(BlockBioQueue)) == (1 if isinstance(result, int) else 0)


def test_rule_dio1_nothing_to_write_is_nothing_written_atomic_or_not(world):
    machine, task, buf, fd = world
    assert task.pwrite(fd, buf, 0, 0, "RWF_ATOMIC") == 0
    assert machine.trace.of(BlockBioQueue) == ()


def test_rwf_noappend_writes_where_it_is_told(world):
    machine, task, buf, _ = world
    task.store(buf, b"n" * 4096)
    fd = task.open("/dev/nvme0n1", "O_RDWR|O_DIRECT|O_APPEND")
    assert outcome(task.pwrite, fd, buf, 4096, 8192) == "-ENOSPC"
    assert task.pwrite(fd, buf, 4096, 8192, "RWF_NOAPPEND") == 4096
    assert machine.device.peek(8192, 4096) == b"n" * 4096


def test_a_device_that_has_no_atomic_writes_refuses_them(world):
    _, task, buf, fd = world
    assert outcome(task.pwrite, fd, buf, 512, 0, "RWF_ATOMIC") == "-EOPNOTSUPP"


ALL, E18 = "all", "page 6.18"
TABLE = [
    # skew, iovec lengths, position, write, who sees it otherwise: result
    (0, [4096], 0, False, {ALL: 4096}),
    (512, [4096], 0, True, {ALL: 4096}),
    (4, [4096], 0, False, {ALL: 4096}),
    (2, [4096], 0, False, {ALL: "-EINVAL"}),
    (2, [512], 0, False, {ALL: "-EINVAL", E18: "-EIO"}),  # 6.18 looks nowhere: the drive itself refuses (R8)
    (0, [513], 0, False, {ALL: "-EINVAL"}),
    (0, [4096], 100, True, {ALL: "-EINVAL"}),
    (0, [512, 3584, 4096], 0, False, {ALL: 8192}),
    # 6.1 and 6.12 want whole blocks of each piece (R1); 7.3 tells of the gap inside a block in an SGL (NVME-2)
    (0, [256, 256], 0, False, {ALL: 512, "page 6.1": "-EINVAL", "page 6.12": "-EINVAL"}),
    (0, [256], 0, False, {ALL: "-EINVAL"}),
    (0, [], 100, True, {ALL: 0}),
    (0, [4096], END, False, {ALL: 0}),
    (0, [4096], END, True, {ALL: "-ENOSPC"}),
    (0, [8192], END - 4096, True, {ALL: 4096}),
    (0, [8192], END - 4096, False, {ALL: 4096}),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: "-".join(map(str, row[:4])))
def test_rules_dio1_to_dio16_what_a_call_returns(world, row, request):
    machine, task, buf, fd = world
    skew, lengths, pos, write, results = row
    iov, at = [], buf + skew
    for length in lengths:
        iov.append((at, length))
        at += length
    expected = results.get(request.node.callspec.params["world"], results[ALL])
    assert outcome(task.pwritev if write else task.preadv, fd, iov, pos) == expected
    assert machine.ledger.held == {}


IOS = st.tuples(
    st.lists(
        st.tuples(st.integers(0, 40 * 8), st.integers(1, 24)),  # in units of 512 bytes
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 64),
    st.booleans(),
    st.integers(0, 40),
)


@given(ios=st.lists(IOS, min_size=1, max_size=4), folio=st.sampled_from(["4 KiB", "64 KiB", "2 MiB"]))
@settings(deadline=None, max_examples=60)
def test_invariant_8_every_currency_moves_the_same_bytes_with_the_same_result_but_for_d4(ios, folio):
    """Pieces may reach beyond what is mapped: pages give a short count there, what is pinned at the start nothing."""
    ends = {}
    for system in ("phyr", "page 6.18", "page 7.3", "unified 7.3"):
        machine = machine_of(system)
        task = machine.task()
        fd, buf, size = task.open("/dev/nvme0n1"), task.mmap(40 * 4096, folio), 40 * 4096
        task.store(buf, bytes(range(251)) * (size // 251) + bytes(size % 251))
        machine.device.poke(0, b"d" * 512 * 300)
        story = []
        for pieces, sector, write, _ in ios:
            iov = [(buf + at * 512, n * 512) for at, n in pieces]
            whole = all(at * 512 + n * 512 <= size for at, n in pieces)
            result = outcome(task.pwritev if write else task.preadv, fd, iov, sector * 512)
            story.append((result if whole else "differs (D-4)", whole))
            if not whole:
                break
        assert machine.ledger.held == {}
        good = all(whole for _, whole in story)
        ends[system] = (
            story,
            task.load(buf, size) if good else b"",
            machine.device.peek(0, 512 * 300) if good else b"",
        )
    assert len({str(end) for end in ends.values()}) == 1


class Unready:
    """A file whose cache keeps what is in it, so that a write of it cannot be direct."""

    def __init__(self, machine):
        self.name, self.queue, self.i_size, self.dio, self.machine = "/f", machine.queue, 65536, True, machine

    def check(self, _call, _pos, nbytes, **_how):
        return nbytes

    def dio_submit(self, _sub, _it):
        yield 1
        raise SyscallError("filemap", "/f", "keeps pages", errno.ENOTBLK)


class Buffer:
    """A page cache that takes notes, and fails where it is told to."""

    def __init__(self, bad=()):
        self.bad, self.calls = dict(bad), []

    def _note(self, name, result=None):
        self.calls.append(name)
        yield 1
        if name in self.bad:
            raise SyscallError("filemap", "/f", "fails", self.bad[name])
        return result

    def opened(self):
        return self

    def write(self, _io, _pos, _user, nbytes, *, nowait=False):
        return self._note(f"write nowait={nowait}", nbytes)

    def write_and_wait_range(self, *_range):
        return self._note("write_and_wait")

    def invalidate_range(self, *_range):
        return self._note("invalidate")


@pytest.mark.parametrize(
    ("bad", "rwf", "result", "calls"),
    [
        ({}, "", 4096, ["write nowait=False", "write_and_wait", "invalidate"]),
        ({"invalidate": errno.EBUSY}, "", 4096, ["write nowait=False", "write_and_wait", "invalidate"]),
        ({"write_and_wait": errno.EIO}, "", "-EIO", ["write nowait=False", "write_and_wait"]),
        ({"write nowait=True": errno.EAGAIN}, "RWF_NOWAIT", "-EAGAIN", ["write nowait=True"]),
    ],
)
def test_rule_dio18_a_write_that_cannot_be_direct_goes_through_the_cache_and_to_the_device(
    bad, rwf, result, calls, nothing_held
):
    machine = machine_of("page 7.3")
    task, cache = machine.task(), Buffer(bad)
    fd = task.syscalls.open(Unready(machine), "O_RDWR|O_DIRECT", cache)
    assert outcome(task.pwrite, fd, task.mmap(4096), 4096, 0, rwf) == result
    assert cache.calls == calls
    nothing_held(machine)
