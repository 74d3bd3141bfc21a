"""Every knob of a scenario, over the systems and the kernels: the bytes arrive, nothing is broken, nothing is held."""

import pytest

from labkit.errors import BadInput, ScenarioError
from labkit.machine import Machine
from labkit.machine.run import pattern
from labkit.scenario import Scenario
from labkit.trace.events import (
    BlockBioQueue,
    BlockRqInsert,
    BlockRqIssue,
    BlockSplit,
    CopyFolio,
    IomapIterDstmap,
    IoUringComplete,
    IovIterZero,
    SysEnter,
)

SMALL = {"ram": "64 MiB", "size": "64 KiB", "fragmentation": 1.0, "check": True}
WHO = [
    *(("page", kernel) for kernel in ("6.1", "6.12", "6.18", "7.3")),
    *((system, kernel) for system in ("phyr", "unified") for kernel in ("6.18", "7.3")),
]
FILES = ("raw", "ext4", "xfs")
KNOBS = [
    *({"fs": fs, "direct": direct} for fs in FILES for direct in (True, False)),
    *({"fs": fs, "direct": False, "completion": "folio_walk"} for fs in FILES),
    *({"fs": fs, "extents": what} for fs in ("ext4", "xfs") for what in ("hole", "unwritten", "mixed")),
    *({"fs": "ext4", "extents": what, "direct": False} for what in ("hole", "unwritten", "mixed")),
    *({"fs": "xfs", "extents": "shared", "direct": direct} for direct in (True, False)),
    *({"fs": "ext4", "extents": "inline", "size": 32, "direct": direct} for direct in (True, False)),
    *({"fs": "ext4", "offset": "12 KiB", "scatter": 1.0, "count": 2, "direct": direct} for direct in (True, False)),
    *({"fs": fs, "api": api} for fs in ("raw", "ext4") for api in ("io_uring", "io_uring-fixed", "aio")),
    *({"fs": fs, "api": "preadv", "pieces": pieces} for fs in ("raw", "xfs") for pieces in (1, 7, 64)),
    {"fs": "raw", "api": "preadv", "pieces": 7, "direct": False},
    *({"fs": fs, "flags": flags} for fs in ("raw", "ext4") for flags in ("RWF_DSYNC", "RWF_SYNC", "RWF_HIPRI")),
    {"fs": "raw", "flags": "RWF_NOWAIT"},
    *({"sched": sched, "size": "300 KiB", "iommu": "strict"} for sched in ("mq-deadline", "bfq", "kyber")),
    *(
        {"size": "300 KiB", "skew": 512, "limits": limits}
        for limits in (
            {"max_segments": 4}, {"max_sectors_kb": 16}, {"chunk_sectors": 64}, {"nomerges": 2},
            {"seg_boundary_mask": 0xFFFF}, {"max_segment_size": 8192}, {"logical_block_size": 4096},
        )
    ),
    *(
        {"stack": stack, "fs": fs, "size": "200 KiB", "offset": "4 KiB", "direct": direct}
        for stack in ("partition", "stripe", "crypt") for fs in ("raw", "xfs") for direct in (True, False)
    ),
    *({"fs": "ext4", "folio": folio, "size": "2 MiB"} for folio in ("2MiB", "64KiB", "file-4MiB")),
]  # fmt: skip


def name_of(knobs):
    return "-".join(f"{name}={value}".replace(" ", "") for name, value in knobs.items())


def sampled(machine, every=4999):
    """Compare snapshot and trace every so many ns while the machine runs; return (list of results, a way to end)."""
    same, going = [], [True]

    def look():
        same.append(machine.snapshot() == machine.trace.state_at(machine.clock.now))
        if going:
            machine.clock.later(every, look)

    machine.clock.later(0, look)
    return same, going.clear


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize("knobs", KNOBS, ids=name_of)
@pytest.mark.parametrize(("system", "kernel"), WHO)
def test_every_byte_arrives_and_nothing_is_left(system, kernel, knobs, op, nothing_held):
    with Machine(**(SMALL | knobs | {"system": system, "kernel": kernel, "op": op})) as machine:
        same, stop = [], None
        if (system, kernel) in {("page", "6.18"), ("phyr", "7.3")}:
            same, stop = sampled(machine)
        report = machine.run()
        if stop is not None:
            machine.clock.later(0, stop)
            assert len(same) > (1 if machine.scenario.extents != "inline" else 0)
        assert (report["error"], report["violations"]) == (None, [])
        assert (report["verified"], report["survived"]) == (True, True)
        assert all(same)
        nothing_held(machine)


@pytest.mark.host
@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize("system", ["page", "phyr", "unified"])
@pytest.mark.parametrize(
    "knobs",
    [
        *({"fs": fs, "direct": direct} for fs in FILES for direct in (True, False)),
        *({"fs": "ext4", "extents": what} for what in ("hole", "unwritten", "mixed")),
        {"fs": "ext4", "extents": "inline", "size": 32},
        {"fs": "xfs", "extents": "shared", "scatter": 1.0},
        {"fs": "ext4", "api": "io_uring-fixed"},
        {"fs": "ext4", "flags": "RWF_DSYNC", "sched": "bfq"},
    ],
    ids=name_of,
)
def test_a_file_over_the_bytes_of_a_real_loop_device(system, knobs, op, nothing_held):
    with Machine(**(SMALL | knobs | {"system": system, "op": op, "device": "loop"})) as machine:
        report = machine.run()
        assert (report["error"], report["violations"], report["verified"]) == (None, [], True)
        nothing_held(machine)


def run(**knobs):
    with Machine(**(SMALL | knobs)) as machine:
        return machine.run(), machine.trace


def test_what_is_appended_is_looked_for_where_it_went(nothing_held):
    with Machine(**SMALL, fs="ext4", op="write", flags="RWF_APPEND") as machine:
        assert machine.run()["verified"]
        assert machine.volume.size("/mnt/file") == 128 << 10
        nothing_held(machine)
    assert run(op="write", flags="RWF_APPEND")[0]["error"].endswith("lies beyond the 16 GiB of nvme0n1 (-ENOSPC)")


def test_several_ios_have_one_file_and_one_filesystem():
    with Machine(**SMALL, fs="xfs", op="write", count=3) as machine:
        assert machine.run()["verified"]
        assert list(machine.volume.filesystem.files) == ["file"]


def test_every_turn_has_bytes_of_its_own_and_the_seed_decides_which():
    one, other = Scenario.of({"size": "4 KiB", "seed": 1}), Scenario.of({"size": "4 KiB", "seed": 2})
    assert list(pattern(one, 0)) == list(pattern(one, 0))
    assert len({next(iter(pattern(sc, turn)))[1] for sc in (one, other) for turn in (0, 1)}) == 4


def test_a_file_in_turns_is_mapped_a_hole_and_unwritten():
    _, trace = run(fs="ext4", extents="mixed", size="48 KiB")
    kinds = [rec.type for rec in trace.of(IomapIterDstmap)]
    assert kinds[:3] == ["mapped", "hole", "unwritten"]
    assert sum(rec.nbytes for rec in trace.of(IovIterZero)) == 32 << 10
    assert sum(rec.nr_sector for rec in trace.of(BlockBioQueue)) == 32


def test_a_file_whose_blocks_lie_apart_is_an_extent_for_each():
    whole, apart = (run(fs="ext4", scatter=scatter)[1] for scatter in (0, 1.0))
    assert len(whole.of(IomapIterDstmap)) == 1
    assert len(apart.of(IomapIterDstmap)) == 16
    assert len(apart.of(BlockRqIssue)) > len(whole.of(BlockRqIssue))


def test_what_is_in_the_cache_is_read_again_without_the_device():
    once, twice = (run(fs="ext4", direct=False, count=count) for count in (1, 2))
    assert once[0]["verified"] is twice[0]["verified"] is True
    assert len(twice[1].of(BlockRqIssue)) == len(once[1].of(BlockRqIssue)) > 0
    assert len(twice[1].of(CopyFolio)) == 2 * len(once[1].of(CopyFolio))


@pytest.mark.parametrize("kernel", ["6.1", "6.18", "7.3"])
@pytest.mark.parametrize("system", ["page", "unified"])
def test_a_page_that_two_pieces_share_is_pinned_twice_and_told_so(system, kernel, nothing_held):
    """MM-13: where both are one vector (R3 of 6.18 and before), the records tell the two pins all the same."""
    with Machine(**SMALL, system=system, kernel=kernel) as machine:
        task = machine.task()
        buf, fd, seen = task.mmap("8 KiB", folio="16 KiB"), task.open("/dev/nvme0n1"), []
        task.store(buf, bytes(8192))
        base = machine.snapshot().folios[0].refcount
        machine.clock.later(5000, lambda: seen.append((machine.snapshot(), machine.trace.state_at(machine.clock.now))))
        assert task.preadv(fd, [(buf, 2048), (buf + 2048, 2048), (buf + 4096, 4096)]) == 8192
        ((now, told),) = seen
        assert now.folios[0].refcount - base == now.folios[0].pincount == 3
        assert now == told
        nothing_held(machine)


def test_limits_split_what_the_device_itself_would_take():
    plain, cut = (run(size="64 KiB", limits=limits)[1] for limits in ({}, {"max_sectors_kb": 16}))
    assert (len(plain.of(BlockSplit)), len(plain.of(BlockRqIssue))) == (0, 1)
    assert (len(cut.of(BlockSplit)), len(cut.of(BlockRqIssue))) == (3, 4)


def test_a_scheduler_lets_requests_wait_and_none_lets_them_go():
    plain, queued = (run(sched=sched)[1] for sched in ("none", "mq-deadline"))
    assert (len(plain.of(BlockRqInsert)), len(queued.of(BlockRqInsert))) == (0, 1)


@pytest.mark.parametrize(("api", "name"), [("pread", "pread64"), ("preadv", "preadv")])
def test_a_call_has_its_own_name(api, name):
    assert [rec.name for rec in run(api=api)[1].of(SysEnter)] == [name]


@pytest.mark.parametrize("api", ["io_uring", "io_uring-fixed", "aio"])
def test_a_ring_tells_of_its_completion(api):
    report, trace = run(api=api)
    assert [rec.res for rec in trace.of(IoUringComplete)] == [65536]
    assert report["result"] == 65536
    assert report["sim_ns"] > 0


def test_buffered_io_copies_and_direct_io_does_not():
    assert sum(rec.nbytes for rec in run(fs="ext4", direct=False)[1].of(CopyFolio)) == 64 << 10
    assert run(fs="ext4")[1].of(CopyFolio) == ()


@pytest.mark.parametrize("fs", FILES)
@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"max_segment": 4}, "limits: 'max_segment' is not one of "),
        ({"depth": 0}, "limits: 'depth' is not one of "),
        ({"max_sectors_kb": 3}, "limits: max_sectors=6 is less than a page"),
        ({"max_sectors": -8}, "limits: max_sectors=-8 is negative"),
        ({"logical_block_size": 513}, "limits: logical_block_size=513 is not a power of two"),
        ({"logical_block_size": 0}, "limits: logical_block_size=0 is not a power of two"),
        ({"dma_alignment": 6}, "limits: dma_alignment=6 is not a mask"),
        ({"dma_alignment": 8191}, "limits: dma_alignment=8191 is more than a page (LIM-4)"),
        ({"seg_boundary_mask": 255}, "limits: seg_boundary_mask=255 is less than a page (LIM-3)"),
        ({"max_segment_size": 511}, "limits: max_segment_size=511 is less than a page (LIM-3)"),
        ({"nr_requests": 1 << 40}, "limits: nr_requests=1099511627776 is more than the "),
        ({"nr_requests": 0}, "limits: nr_requests=0 is less than 1 (MQ-2)"),
        ({"nomerges": 3}, "limits: nomerges=3 is not 0, 1 or 2 (R14)"),
        ({"max_sectors_kb": 1024}, "limits: max_sectors=2048 is more than the "),
        ({"max_hw_sectors": 16384}, "limits: max_hw_sectors=16384 is more than the "),
        ({"max_segments": 65536}, "limits: max_segments=65536 is more than 65535, which 16 bits hold (LIM-3)"),
        ({"chunk_sectors": 12, "logical_block_size": 4096}, "limits: chunk_sectors=12 is no whole number of logical "),
        ({"atomic_write_unit_max": 3000}, "limits: atomic_write_unit_max=3000 is not a power of two (SPLIT-2)"),
    ],
    ids=lambda value: name_of(value) if isinstance(value, dict) else "",
)
def test_a_limit_that_cannot_be_is_one_sentence(limits, sentence, fs):
    with pytest.raises(BadInput) as caught:
        Machine(**SMALL, fs=fs, limits=limits)
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).endswith(" (-EINVAL)")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18"])
def test_gaps_are_allowed_only_where_the_driver_can_tell_of_them(kernel):
    with pytest.raises(BadInput, match=r"virt_boundary_mask=0 is looser than the device's own 4095, .* \(NVME-2\)"):
        Machine(**SMALL, kernel=kernel, limits={"virt_boundary_mask": 0})
    assert Machine(**SMALL).queue.limits.virt_boundary_mask == 0
    with pytest.raises(BadInput, match="virt_boundary_mask=0 is looser"):
        Machine(**SMALL, profile={"sgl": 0}, limits={"virt_boundary_mask": 0})


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"extents": "hole"}, "scenario: it cannot be: extents=hole is for a file, and fs=raw (-EINVAL)"),
        ({"pieces": 2}, "scenario: it cannot be: pieces=2 is for api=preadv, and api=pread (-EINVAL)"),
        (
            {"hazard": "ksm", "flags": "RWF_APPEND", "op": "write"},
            "scenario: it cannot be: hazard=ksm looks at the offset, and RWF_APPEND writes elsewhere (-EINVAL)",
        ),
        (
            {"folio": "kvec", "direct": False},
            "scenario: it cannot be: folio=kvec is the kernel's own buffer for direct IO, and direct=False (-EINVAL)",
        ),
    ],
)
def test_knobs_that_do_not_go_together_are_one_sentence(knobs, sentence):
    with pytest.raises(ScenarioError) as caught:
        Machine(**knobs)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("knobs", "result", "sentence"),
    [
        ({"fs": "ext4", "extents": "shared"}, "-EOPNOTSUPP", "ioctl: ext4 cannot share blocks between files"),
        ({"fs": "xfs", "extents": "inline", "size": 32}, "-EINVAL", "inode"),
        ({"fs": "ext4", "extents": "inline"}, "-EINVAL", "are more than the 60 that an inode holds"),
        (
            {"fs": "ext4", "limits": {"logical_block_size": 8192}},
            "-EINVAL",
            "mkfs: logical_block_size=8192 is more than the largest block of a filesystem here, 4096 bytes",
        ),
        ({"flags": "RWF_FAST"}, "-EOPNOTSUPP", "RWF_FAST"),
        ({"flags": "RWF_ATOMIC", "op": "write", "direct": False}, "-EOPNOTSUPP", ""),
    ],
)
def test_what_the_kernel_refuses_is_the_error_of_a_report(knobs, result, sentence):
    report, _ = run(**knobs)
    assert (report["result"], report["verified"]) == (result, False)
    assert sentence in report["error"]
    assert report["violations"] == []


@pytest.mark.parametrize(("op", "result"), [("read", 0), ("write", "-ENOSPC")])
def test_what_stands_on_the_disk_ends_where_it_does(op, result):
    assert Machine(**SMALL, stack="partition", offset="9 GiB", op=op).run()["result"] == result


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    ("op", "beyond", "result"),
    [
        ("read", -2048, 2048), ("read", 0, 0), ("read", 1 << 20, 0),
        ("write", -2048, 2048), ("write", 0, "-ENOSPC"), ("write", 1 << 20, "-ENOSPC"),
    ],
)  # fmt: skip
def test_rule_dio_1_an_io_at_the_end_of_the_device_is_the_kernels_to_answer(op, beyond, result, direct):
    report = Machine(ram="64 MiB", op=op, offset=(16 << 30) + beyond, size=4096, direct=direct).run()
    assert (report["result"], report["verified"]) == (result, result != "-ENOSPC")


@pytest.mark.parametrize("system", ["phyr", "page"])
def test_a_ring_lets_go_of_its_part_of_a_buffer_that_is_registered_as_a_whole(system, nothing_held):
    knobs = {"size": "4 KiB", "skew": 512, "folio": "registered", "api": "io_uring-fixed", "ram": "96 MiB"}
    with Machine(system=system, count=2, **knobs) as machine:
        assert machine.run()["verified"]
        nothing_held(machine)
