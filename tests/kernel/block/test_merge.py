"""Whatever bios come: what is issued keeps the limits of the queue, and moves the same bytes."""

import errno
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.bio import Bio, Op
from labkit.kernel.block.blk_mq import RequestQueue
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.merge import attempt_rq_merge, blk_attempt_bio_merge
from labkit.kernel.block.plug import Plug
from labkit.kernel.block.split import Piece
from labkit.kernel.drivers.ops import Request
from labkit.kernel.version import KERNELS
from labkit.machine.build import DATA
from labkit.scatter.bio_vec import BioVecs
from labkit.scatter.phyr import Phyr, PhyrList

CPU = Cpu.load(DATA / "cpu.toml")


class Driver:
    """Notes each request as it comes, and ends it a microsecond later."""

    def __init__(self, clock):
        self.clock, self.seen = clock, []

    def queue_rq(self, rq):
        yield 5
        self.seen.append(rq)
        self.clock.later(1000, rq.end_io, rq, 0)


@st.composite
def queues(draw):
    lbs = draw(st.sampled_from([512, 1024, 4096]))
    virt = draw(st.sampled_from([0, 0, 4095, 511]))
    return QueueLimits(
        logical_block_size=lbs,
        physical_block_size=lbs * draw(st.sampled_from([1, 8])),
        max_sectors=draw(st.integers(8, 300)),
        max_hw_sectors=1024,
        max_segments=draw(st.integers(1, 9)),
        max_segment_size=draw(st.sampled_from([4096, 5120, 16384, 65536])),
        seg_boundary_mask=draw(st.sampled_from([0xFFF, 0xFFFF, 0xFFFF_FFFF])),
        virt_boundary_mask=virt,
        dma_alignment=draw(st.sampled_from([3, 511])),
        chunk_sectors=draw(st.sampled_from([0, 0, 8, 24, 128])),
        nomerges=draw(st.sampled_from([0, 0, 1, 2])),
        nr_requests=draw(st.sampled_from([4, 128])),
    )


@st.composite
def memory(draw, limits):
    """Vectors of whole logical blocks in all; some touch, some are whole pages, some are bits of a page."""
    unit = limits.dma_alignment + 1
    vecs, at = [], draw(st.integers(1, 1 << 12)) * 4096
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(["page", "page", "bit", "long"]))
        if kind == "page":
            vecs.append((at, 4096))
        elif kind == "bit":
            skip = draw(st.integers(0, (4096 - unit) // unit)) * unit
            vecs.append((at + skip, draw(st.integers(1, (4096 - skip) // unit)) * unit))
        else:
            vecs.append((at, draw(st.integers(4097, 100_000)) // unit * unit))
        at = -(-sum(vecs[-1]) // 4096) * 4096 + draw(st.sampled_from([0, 0, 4096, 1 << 20]))
    total = sum(n for _, n in vecs)
    rest = -total % limits.logical_block_size
    return [*vecs, (at + (1 << 21), rest)] if rest else vecs


@st.composite
def loads(draw):
    """A queue, and bios for places beside each other, in any order."""
    limits = draw(queues())
    bios, sector = [], draw(st.integers(0, 100)) * (limits.logical_block_size >> 9)
    for _ in range(draw(st.integers(1, 6))):
        vecs = draw(memory(limits))
        bios.append((sector, vecs))
        gap = draw(st.sampled_from([0, 0, 0, limits.logical_block_size >> 9]))
        sector += (sum(n for _, n in vecs) >> 9) + gap
    return limits, draw(st.permutations(bios) | st.just(bios))


def joined(runs):
    """Join runs (byte of the disk, physical address, bytes) that go on in both."""
    out = []
    for disk, addr, n in sorted(runs):
        if out and out[-1][0] + out[-1][2] == disk and out[-1][1] + out[-1][2] == addr:
            out[-1] = (out[-1][0], out[-1][1], out[-1][2] + n)
        else:
            out.append((disk, addr, n))
    return out


def runs_of(sector, vecs):
    at, out = sector << 9, []
    for addr, n in vecs:
        out.append((at, addr, n))
        at += n
    return out


def recount(vecs, limits):
    """Count segments as a device would have to take them: inside a page one, else cut at size and boundary."""
    count = 0
    for addr, length in vecs:
        if addr % 4096 + length <= 4096:
            count += 1
            continue
        at = addr
        while at < addr + length:
            boundary = (at | limits.seg_boundary_mask) + 1
            at = min(addr + length, at + limits.max_segment_size, boundary)
            count += 1
    return count


def submit(limits, bios, kernel, *, plugged, write, page):
    """Send `bios`; return the bios, and the requests that the driver saw."""
    clock = Clock()
    driver = Driver(clock)
    queue = RequestQueue(clock, CPU, limits, driver, lambda _raw: None, KERNELS[kernel])
    plug = Plug() if plugged else None
    sent = []

    def task():
        for number, (sector, vecs) in enumerate(bios):
            payload = BioVecs.of(vecs) if page else PhyrList(Phyr(*vec) for vec in vecs)
            sent.append(Bio(clock, number, 1, sector, payload, write=write))
            yield from queue.submit_bio(sent[-1], plug)
        if plug is not None and plug.held:
            yield from plug.flush()

    clock.run(until=clock.job(task()))
    clock.run()
    assert all(bio.done.processed and bio.remaining == 0 for bio in sent)
    assert queue.in_flight == {}
    assert queue.tags.free == queue.tags.depth
    return sent, driver.seen


@given(load=loads(), kernel=st.sampled_from([*KERNELS]), plugged=st.booleans(), write=st.booleans(), page=st.booleans())
@settings(deadline=None, max_examples=500)
def test_invariants_1_and_3_what_is_issued_keeps_every_limit_and_moves_the_same_bytes(
    load, kernel, plugged, write, page
):
    limits, bios = load
    sent, requests = submit(limits, bios, kernel, plugged=plugged, write=write, page=page)
    for rq in requests:
        assert rq.nbytes == sum(n for _, n in rq.vecs)
        assert rq.nbytes % limits.logical_block_size == rq.sector % (limits.logical_block_size >> 9) == 0
        assert 0 < rq.nbytes >> 9 <= limits.max_sectors
        last = rq.sector + (rq.nbytes >> 9) - 1
        assert not limits.chunk_sectors or rq.sector // limits.chunk_sectors == last // limits.chunk_sectors
        assert recount(rq.vecs, limits) == rq.segments <= limits.max_segments
        joints = pairwise(rq.vecs)
        assert all(sum(a) == b[0] or not (sum(a) | b[0]) & limits.virt_boundary_mask for a, b in joints)
    issued = [run for rq in requests for run in runs_of(rq.sector, rq.vecs)]
    wanted = []
    for bio, (sector, vecs) in zip(sent, bios, strict=True):
        assert bio.error in {0, errno.EINVAL}
        if bio.error:  # what came before the part that no limit lets through is done, from the front on
            ends = [rq.sector + (rq.nbytes >> 9) for rq in requests]
            end = sector + (bio.nbytes >> 9)
            reach = max((min(e, end) - sector for e in ends if sector < e <= end), default=0) << 9
            vecs = PhyrList(Phyr(*vec) for vec in vecs).slice(0, reach).vecs if reach else ()  # noqa: PLW2901
        wanted += runs_of(sector, vecs)
    assert joined(issued) == joined(wanted)


def piece(sector, *vecs, write=False, cls="ram", opf=0):
    bio = SimpleNamespace(opf=Op(opf), write=write, cls=cls)
    return bio, Piece(vecs, sum(n for _, n in vecs), len(vecs)), sector


def request(sector, *vecs, write=False, cls="ram", opf=0):
    rq = Request(1, 1, 0, sector, (vecs, sum(n for _, n in vecs), len(vecs)), cls, write=write)
    rq.opf = Op(opf)
    return rq


ROOMY = QueueLimits(max_sectors=64, max_segments=3)
HERE = ((0x10000, 4096),)


@pytest.mark.parametrize(
    ("sector", "expected"), [(8 + 8, ("back", 1)), (0, ("front", 1)), (24, None), (8, None), (1, None)]
)
def test_rule_merge3_a_piece_joins_at_the_end_or_at_the_front(sector, expected):
    rq = request(8, *HERE)
    assert blk_attempt_bio_merge(rq, *piece(sector, (0x20000, 4096)), ROOMY) == expected
    assert rq.nomerge is False


@pytest.mark.parametrize("flag", [Op.FUA, Op.PREFLUSH, Op.NOMERGE])
def test_rule_merge1_some_bios_are_never_merged(flag):
    assert blk_attempt_bio_merge(request(8, *HERE), *piece(16, (0x20000, 4096), opf=flag), ROOMY) is None


def test_rules_merge2_and_d8_neither_another_direction_nor_another_memory():
    assert blk_attempt_bio_merge(request(8, *HERE), *piece(16, (0x20000, 4096), write=True), ROOMY) is None
    assert blk_attempt_bio_merge(request(8, *HERE), *piece(16, (0x20000, 4096), cls="mmio"), ROOMY) is None


@pytest.mark.parametrize("one", [0, Op.ATOMIC])
@pytest.mark.parametrize("other", [0, Op.ATOMIC])
def test_rule_merge2_an_atomic_write_is_merged_with_an_atomic_write_alone(one, other):
    limits = QueueLimits(max_hw_sectors=1024, atomic_write_unit_min=512, atomic_write_unit_max=32768)
    rq, last = request(8, *HERE, opf=one), (0x20000, 4096)
    assert (blk_attempt_bio_merge(rq, *piece(16, last, opf=other), limits) is not None) == (one == other)
    assert attempt_rq_merge(rq, request(16, last, opf=other), limits) == (one == other)
    assert rq.nomerge is False


def test_rule_split2_atomic_writes_grow_together_to_their_own_maximum():
    limits = QueueLimits(max_hw_sectors=1024, max_sectors=8, atomic_write_unit_min=512, atomic_write_unit_max=8192)
    rq = request(8, *HERE, opf=Op.ATOMIC)
    assert blk_attempt_bio_merge(rq, *piece(16, (0x20000, 4096), opf=Op.ATOMIC), limits) == ("back", 1)
    assert blk_attempt_bio_merge(rq, *piece(16, (0x20000, 8192), opf=Op.ATOMIC), limits) is None


@pytest.mark.parametrize("limits", [
    QueueLimits(max_sectors=8, max_segments=3), QueueLimits(max_sectors=64, max_segments=1),
    QueueLimits(max_sectors=64, chunk_sectors=16),
])  # fmt: skip
def test_rule_merge4_a_request_that_would_be_too_large_takes_nobody_any_more(limits):
    rq = request(8, *HERE)
    assert blk_attempt_bio_merge(rq, *piece(16, (0x20000, 4096)), limits) is None
    assert rq.nomerge is True
    assert blk_attempt_bio_merge(rq, *piece(16, (0x20000, 512)), ROOMY) is None


@pytest.mark.parametrize(
    ("first", "then", "may"),
    [
        ((0x10000, 4096), (0x20000, 512), True),
        ((0x10000, 512), (0x20000, 512), False),
        ((0x10000, 512), (0x10200, 512), True),
        ((0x10000, 4096), (0x20200, 512), False),
        ((0x10200, 512), (0x10400, 512), False),
    ],
)
def test_rule_merge4_no_gap_at_the_joint_and_the_first_vector_on_the_boundary(first, then, may):
    limits = QueueLimits(max_sectors=64, virt_boundary_mask=4095)
    rq = request(8, first)
    joined = blk_attempt_bio_merge(rq, *piece(8 + (first[1] >> 9), then), limits)
    assert (joined is not None) == may
    assert rq.nomerge is False


@pytest.mark.parametrize(("window", "may"), [(0xFFFF_FFFF, True), (0xFFFF, True), (0xFFF, False)])
def test_rule_merge6_memory_that_goes_on_is_a_gap_where_a_segment_must_end(window, may):
    """0x11000 begins a window of 4 KiB, and lies inside one of 64 KiB."""
    limits = QueueLimits(max_sectors=64, virt_boundary_mask=0x1FFF, seg_boundary_mask=window)
    rq = request(8, (0x10000, 4096))
    assert (blk_attempt_bio_merge(rq, *piece(16, (0x11000, 512)), limits) is not None) == may
    assert attempt_rq_merge(rq, request(16, (0x11000, 512)), limits) == may


def test_rule_merge5_two_requests_become_one_within_the_limits():
    assert attempt_rq_merge(request(8, *HERE), request(16, (0x20000, 4096)), ROOMY)
    assert not attempt_rq_merge(request(8, *HERE), request(17, (0x20000, 4096)), ROOMY)
    assert not attempt_rq_merge(request(8, *HERE), request(16, (0x20000, 4096), write=True), ROOMY)
    assert not attempt_rq_merge(request(8, *HERE), request(16, (0x20000, 4096)), QueueLimits(max_sectors=8))
    assert not attempt_rq_merge(request(8, *HERE), request(16, (0x20000, 4096)), QueueLimits(max_segments=1))
    gappy = QueueLimits(virt_boundary_mask=4095)
    assert not attempt_rq_merge(request(8, (0x10000, 512)), request(9, (0x20000, 4096)), gappy)
