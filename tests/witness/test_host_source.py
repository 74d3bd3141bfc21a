"""This machine's kernel as a source: what it is asked it does, what is seen is exact, and nothing is left."""

import errno
import os
import shutil

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.host.calls import loop_ioctl, mounts
from labkit.host.probe import probe
from labkit.witness import host_source
from labkit.witness.asking import ask
from labkit.witness.check import residual
from labkit.witness.host_source import BUFFER_BYTES, HostSource
from labkit.witness.outcome import Outcome
from labkit.witness.predict import predict
from labkit.witness.source import Asked, AskedIo

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not probe()["tracefs"].ok, reason=f"no trace here: {probe()['tracefs'].remedy}"),
]
PAGE = 4096


def one(size, at=0, *, buffer="4KiB-shuffled", api="pread", op="r", pos=0, **more):
    return Asked("one", buffer, api, (AskedIo(op, pos, ((at, size),)),), **more)


def left():
    """What there is of this process; others may come and go."""
    mine = os.getpid()
    return [name for _, name in loop_ioctl.attached() if f"/labkit-loop-{mine}-" in name], [
        path.name for path in (mounts.tracefs() / "instances").glob(f"labkit-{mine}-*")
    ]


@pytest.fixture(scope="module")
def source():
    """A raw device with all that can be told of an IO."""
    before = left()
    with HostSource(pins=True, bios=True) as made:
        yield made
    made.close()
    assert left() == before


def exact(source, asked):
    found = Outcome.of(asked, source.capture(asked))
    assert found.exact, found.lines
    return found


@pytest.mark.parametrize("api", ["pread", "preadv", "io_uring", "io_uring-fixed"])
@pytest.mark.parametrize("op", ["r", "w"])
def test_one_io_is_exact_in_every_part_its_vectors_and_bytes_too(source, api, op):
    region = (0, 1 << 20) if api == "io_uring-fixed" else None
    asked = one(256 << 10, 512, api=api, op=op, pos=8192, region=region)
    found = exact(source, asked)
    assert set(found.parts) >= {"result", "bytes", "bios", "requests"}
    capture = source.capture(asked)
    assert capture.bios
    assert capture.io[0].api.startswith("io_uring") == api.startswith("io_uring")


def test_what_is_told_is_the_call_its_pins_and_its_end(source):
    capture = source.capture(one(16 * PAGE))
    names = [event["event"].rpartition(":")[2] for event in capture.events]
    assert names[0] == "sys_enter_pread64"
    assert names[-1] == "sys_exit_pread64"
    assert "block_rq_complete" in names
    assert capture.pins["acquired"] >= 16
    times = [event["t_ns"] for event in capture.events]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < capture.duration_ns


def test_limits_that_are_asked_for_hold_and_split(source):
    capture = source.capture(one(64 * PAGE, knobs={"max_sectors_kb": 64, "nomerges": 2}))
    assert capture.limits["max_sectors_kb"] == 64
    assert sum(event["event"] == "block:block_split" for event in capture.events) == 3
    exact(source, one(64 * PAGE, knobs={"max_sectors_kb": 1280, "nomerges": 0}))


def test_an_errno_is_what_came_of_it(source):
    capture = source.capture(one(2 * PAGE, 256))
    assert capture.result == [-errno.EINVAL]
    assert exact(source, one(PAGE, pos=100)).result == ["-EINVAL"]


def test_a_registration_follows_what_is_asked(source):
    wide, narrow = (0, 1 << 20), (PAGE, 4 * PAGE)
    assert exact(source, one(PAGE, api="io_uring-fixed", region=wide)).result == [PAGE]
    assert exact(source, one(PAGE, api="io_uring-fixed", region=narrow)).result == ["-EFAULT"]
    assert exact(source, one(PAGE, PAGE, api="io_uring-fixed", region=narrow)).result == [PAGE]
    assert exact(source, one(PAGE)).result == [PAGE]


def test_what_leaves_its_buffer_is_refused(source):
    with pytest.raises(BadInput, match="leaves its buffer"):
        source.capture(one(PAGE, BUFFER_BYTES))


def test_pages_that_move_each_time_are_an_error_and_once_are_not(source, monkeypatch):
    real = host_source.pagemap.rows

    def moved_at(when):
        looks = iter(range(1000))
        return lambda *args: [(va, pfn + 7 * when(at), n) for at in [next(looks)] for va, pfn, n in real(*args)]

    monkeypatch.setattr(host_source.time, "sleep", lambda _: None)
    monkeypatch.setattr(host_source.pagemap, "rows", moved_at(lambda look: look == 1))
    assert source.capture(one(PAGE)).layout.stable
    monkeypatch.setattr(host_source.pagemap, "rows", moved_at(lambda look: look % 2))
    with pytest.raises(SyscallError, match="pages that move"):
        source.capture(one(PAGE))


@pytest.mark.parametrize("block", [512, 4096])
def test_random_ios_on_a_raw_device_are_exact(block):
    with HostSource(logical_block_size=block, seed=block, told=False) as raw:
        for asked in ask(block, 60, raw.space):
            exact(raw, asked)


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
@pytest.mark.parametrize("api", ["", "io_uring", "io_uring-fixed"])
def test_random_ios_on_a_file_are_exact(fs, api):
    if shutil.which(f"mkfs.{fs}") is None:
        pytest.skip(f"no mkfs.{fs}: install e2fsprogs and xfsprogs")
    with HostSource(fs=fs, seed=2, told=not api) as file:
        assert file.space.extents
        for asked in ask(2, 40, file.space, api):
            exact(file, asked)


@pytest.mark.parametrize("api", ["io_uring", "io_uring-fixed"])
def test_random_batches_of_a_ring_are_exact(api):
    with HostSource(seed=3, told=False) as raw:
        for asked in ask(3, 60, raw.space, api):
            exact(raw, asked)


@pytest.mark.parametrize("step", ["make", "Instance", "BioWatch", "_enable"])
def test_whatever_fails_on_the_way_nothing_is_left(monkeypatch, step):
    def refuse(*_, **__):
        raise SyscallError("test", step, "fails", errno.EIO)

    before = left()
    place = {"make": host_source.RealDisk, "_enable": HostSource}.get(step, host_source)
    monkeypatch.setattr(place, step, refuse)
    with pytest.raises(SyscallError, match=step):
        HostSource(bios=True)
    assert left() == before


def test_what_nobody_has_a_sentence_for_is_one_all_the_same(source, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(host_source.pagemap, "rows", refuse)
    with pytest.raises(SyscallError, match=r"capture: one fails: Input/output error \(-EIO\)"):
        source.capture(one(4096))


def test_a_registration_that_leaves_the_buffer_is_refused_in_the_same_words(source):
    with pytest.raises(BadInput, match=f"leaves its buffer of {BUFFER_BYTES} bytes"):
        source.capture(one(PAGE, api="io_uring-fixed", region=(0, BUFFER_BYTES + PAGE)))


def test_a_write_that_gives_a_file_new_blocks_is_exact_by_the_extents_that_it_found():
    with HostSource(fs="ext4") as made:
        size = made.space.nbytes
        capture = made.capture(one(16 * PAGE, op="w", pos=2 * size))
        assert residual(capture, predict(capture)) == []
        assert max(row[0] + row[2] for row in capture.extents) == 2 * size + 16 * PAGE
        assert max(row[0] + row[2] for row in made.space.extents) == 2 * size + 16 * PAGE


def test_a_scheduler_that_others_have_left_is_none_of_ours():
    with HostSource() as made:
        made.disk.put("scheduler", "mq-deadline")
        assert made.capture(one(PAGE)).scheduler == "none"
        assert made.capture(one(PAGE, knobs={"scheduler": "mq-deadline"})).scheduler == "mq-deadline"
        assert made.capture(one(PAGE)).scheduler == "none"
