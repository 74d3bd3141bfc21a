import gc
import itertools
import json
import signal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import BadInput, LabkitError, ScenarioError, SyscallError
from labkit.machine import Machine
from labkit.machine.run import buffer
from labkit.scatter.payload import run_length
from labkit.scenario import Scenario
from labkit.trace.events import (
    BlockBioQueue,
    BlockGetrq,
    BlockRqIssue,
    DeviceDma,
    DmaMap,
    GupPin,
    IotlbFlush,
    NvmeSetupCmd,
    SysExit,
)
from labkit.trace.store import dumps, loads

SMALL = {"ram": "64 MiB", "fragmentation": 1.0}


def machine_of(**knobs):
    return Machine(**(SMALL | knobs))


def step_and_compare(machine, *jobs, tick=None):
    """Run `jobs` to their end, and after every step compare what is with what the trace says; return the steps.

    With a `tick`, something happens every so many ns, so that time passes in small steps alone.
    """
    if tick:
        metronome(machine.clock, tick, jobs)
    for job in jobs:
        job.defused = True
    steps = 0
    while machine.clock.peek() < float("inf"):
        machine.clock.step()
        steps += 1
        assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
    return steps


def metronome(clock, tick, jobs):
    if not all(job.processed for job in jobs):
        clock.later(tick, metronome, clock, tick, jobs)


@pytest.mark.parametrize("tick", [None, 499])
@pytest.mark.parametrize("system", ["phyr", "page"])
@pytest.mark.parametrize("iommu", ["off", "lazy", "strict"])
@pytest.mark.parametrize(
    "knobs",
    [
        {"size": "8 KiB", "op": "write"},
        {"size": "200 KiB", "skew": 512},
        {"size": "1100 KiB", "fragmentation": 1.0},
        {"size": "300 KiB", "folio": "64KiB"},
        {"size": "64 KiB", "buffer": "readonly"},
        {"size": "64 KiB", "buffer": "unmapped"},
    ],
    ids=lambda knobs: knobs["size"].replace(" ", ""),
)
def test_the_trace_tells_the_state_after_every_step(system, iommu, knobs, tick):
    machine = machine_of(system=system, iommu=iommu, **knobs)
    task = machine.task()
    buf = buffer(machine.scenario, task)
    fd = task.open("/dev/nvme0n1")
    nbytes, write = machine.scenario.size, machine.scenario.op == "write"
    call = machine.clock.job(task.syscalls.rw(fd, buf, nbytes, 0, write=write))
    assert step_and_compare(machine, call, tick=tick) >= (10 if tick and "buffer" not in knobs else 2)


@pytest.mark.parametrize("system", ["phyr", "page"])
@pytest.mark.parametrize("iommu", ["lazy", "strict"])
def test_it_does_with_many_ios_at_once_and_memory_that_comes_and_goes(system, iommu, nothing_held):
    machine = machine_of(system=system, iommu=iommu)
    task = machine.task()
    fd, bufs = task.open("/dev/nvme0n1"), [task.mmap("96 KiB") for _ in range(4)]

    def job(number):
        for turn in range(3):
            yield number * 700
            pos = ((number * 5 + turn) % 7) * 98304
            yield from task.syscalls.rw(fd, bufs[number], 98304, pos, write=bool((number + turn) % 2))
        task.munmap(bufs[number])
        again = task.mmap("8 KiB", folio="64 KiB" if number % 2 else "4 KiB")
        yield from task.syscalls.rw(fd, again, 8192, 0, write=False)

    jobs = [machine.clock.job(job(number)) for number in range(4)]
    assert step_and_compare(machine, *jobs, tick=997) > 500
    assert [rec.ret for rec in machine.trace.of(SysExit)].count(98304) == 12
    nothing_held(machine)


def test_it_does_for_two_tasks(nothing_held):
    machine = machine_of(iommu="strict")
    jobs = []
    for number, task in enumerate([machine.task(), machine.task()]):
        buf, fd = task.mmap("16 KiB"), task.open("/dev/nvme0n1")
        jobs.append(machine.clock.job(task.syscalls.rw(fd, buf, 16384, number << 20, write=True)))
    assert step_and_compare(machine, *jobs, tick=97) > 100
    assert [job.value for job in jobs] == [16384, 16384]
    assert [start for start, *_ in machine.snapshot().vmas] == [0x7D00_0000_0000, 0x7F00_0000_0000]
    nothing_held(machine)


@pytest.mark.parametrize("system", ["phyr", "page"])
@pytest.mark.parametrize("iommu", ["lazy", "strict"])
def test_the_trace_tells_the_state_at_any_past_instant(system, iommu):
    machine = machine_of(system=system, iommu=iommu)
    task = machine.task()
    buf, fd, seen = task.mmap("64 KiB"), task.open("/dev/nvme0n1"), {}
    call = machine.clock.job(task.syscalls.rw(fd, buf, 65536, 0, write=False))
    metronome(machine.clock, 97, [call])
    while machine.clock.peek() < float("inf"):
        machine.clock.step()
        if machine.clock.peek() > machine.clock.now:  # nothing more happens at this instant
            seen[machine.clock.now] = machine.snapshot()
    trace = machine.trace
    assert len(seen) > 100
    assert {t: trace.state_at(t) for t in seen} == seen


SCENARIOS = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["read", "write"]),
        "size": st.integers(1, 2400).map(lambda sectors: sectors * 512),
        "offset": st.integers(0, 1 << 20).map(lambda sectors: sectors * 512),
        "folio": st.sampled_from(["4KiB", "64KiB", "2MiB"]),
        "fragmentation": st.sampled_from([0.0, 0.3, 0.9, 1.0]),
        "iommu": st.sampled_from(["off", "lazy", "strict"]),
        "seed": st.integers(0, 1000),
        "skew": st.integers(0, 1023).map(lambda words: words * 4),
        "count": st.integers(1, 2),
    }
)


def prps_of(trace, rq):
    return next(rec for rec in trace.of(NvmeSetupCmd) if rec.rq == rq)


@settings(max_examples=100, deadline=None)
@given(SCENARIOS)
def test_both_currencies_move_the_same_bytes_by_the_same_ranges(nothing_held, knobs):
    reports = {}
    for system in ("phyr", "page"):
        machine = Machine(system=system, ram="64 MiB", **knobs)
        reports[system] = report = machine.run()
        assert (report["result"], report["verified"], report["error"]) == (knobs["size"], True, None)
        trace = machine.trace
        for io in range(1, knobs["count"] + 1):
            check_lengths(trace, io, knobs["size"])
            check_prps(trace, io)
        nothing_held(machine)
        assert loads(dumps(trace)) == trace
    assert reports["phyr"]["phyrs"] == reports["page"]["phyrs"]
    assert reports["phyr"]["pins"]["taken"] <= reports["page"]["pins"]["taken"]
    rows = reports["phyr"]["phyrs"]
    assert all(a + n != b for (a, n), (b, _) in itertools.pairwise(rows))


def check_lengths(trace, io, nbytes):
    """Invariant 1: at every layer the lengths are those of the IO, and every byte is in its place."""

    def of(kind):
        return [rec for rec in trace.of(kind) if rec.io == io]

    pinned = [part for rec in of(GupPin) for part in rec.ranges]
    mapped = [part for rec in of(DmaMap) for part in rec.phys]
    assert sum(n for _, n in pinned) == nbytes
    assert run_length(mapped) == run_length(pinned)
    assert sum(n for rec in of(DmaMap) for _, n in rec.dma) == nbytes
    for kind in (BlockBioQueue, BlockGetrq, BlockRqIssue):
        assert sum(rec.nr_sector for rec in of(kind)) << 9 == nbytes
    assert sum(rec.len for rec in of(DeviceDma)) == nbytes


def check_prps(trace, io):
    """Invariant 4: all but the first begin a page, and there are as many as the pages that the command spans."""
    for rec in trace.of(DmaMap):
        if rec.io == io:
            setup = prps_of(trace, rec.rq)
            if setup.encoding != "prp":
                assert setup.prps == len(rec.dma)
                continue
            assert setup.prp1 == rec.dma[0][0]
            first = 4096 - setup.prp1 % 4096
            assert setup.prps == 1 + max(0, -(-(setup.length - first) // 4096))
            assert setup.prp2 % 4096 == 0 or setup.prps > 2


@pytest.mark.parametrize("iommu", ["off", "lazy", "strict"])
@pytest.mark.parametrize("system", ["phyr", "page"])
def test_random_io_agrees_with_a_shadow_copy(system, iommu, nothing_held):
    rng = np.random.default_rng(5)
    machine = machine_of(system=system, iommu=iommu)
    task = machine.task()
    fd, buf = task.open("/dev/nvme0n1"), task.mmap("256 KiB")
    shadow, memory = bytearray(1 << 20), bytearray(256 << 10)
    task.store(buf, bytes(memory))
    for _ in range(500):
        nbytes = int(rng.integers(1, 128)) * 512
        at = int(rng.integers(0, (262144 - nbytes) // 4 + 1)) * 4
        pos = int(rng.integers(0, ((1 << 20) - nbytes) // 512 + 1)) * 512
        if rng.integers(2):
            data = rng.bytes(nbytes)
            task.store(buf + at, data)
            memory[at : at + nbytes] = data
            assert task.pwrite(fd, buf + at, nbytes, pos) == nbytes
            shadow[pos : pos + nbytes] = data
        else:
            assert task.pread(fd, buf + at, nbytes, pos) == nbytes
            memory[at : at + nbytes] = shadow[pos : pos + nbytes]
    assert task.load(buf, 262144) == memory
    assert machine.device.peek(0, 1 << 20) == shadow
    nothing_held(machine)


def test_the_same_seed_is_the_same_trace_and_another_seed_other_frames():
    runs = []
    for seed in (7, 7, 8):
        machine = machine_of(seed=seed, count=2, fragmentation=0.6)
        machine.run()
        runs.append(machine.trace)
    assert runs[0] == runs[1]
    assert dumps(runs[0]) == dumps(runs[1])
    frames = [trace.of(GupPin)[0].ranges for trace in runs]
    assert frames[0] != frames[2]


def test_sixteen_scattered_frames_are_one_range_behind_an_iommu_and_sixteen_without():
    for iommu, ranges in (("strict", 1), ("lazy", 1), ("off", 16)):
        machine = machine_of(size="64 KiB", iommu=iommu)
        report = machine.run()
        assert (len(report["phyrs"]), len(report["dma"])) == (16, ranges)


@pytest.mark.parametrize(("folio", "phyrs"), [("2MiB", 1), ("64KiB", 16), ("4KiB", 256)])
def test_a_mebibyte_is_as_many_phyrs_as_folios(folio, phyrs):
    assert len(machine_of(size="1 MiB", folio=folio).run()["phyrs"]) == phyrs


@pytest.mark.parametrize(("iommu", "requests"), [("strict", 8), ("off", 2)])
def test_difference_d12_an_iommu_cuts_a_huge_phyr_into_128_kib(iommu, requests):
    report = machine_of(size="1 MiB", folio="2MiB", iommu=iommu).run()
    assert (len(report["phyrs"]), len(report["requests"])) == (1, requests)


def test_phyr_touches_no_struct_page_and_converts_nothing():
    meters = {
        system: machine_of(system=system, size="64 KiB", iommu="strict").run()["meters"] for system in ("phyr", "page")
    }
    assert meters["phyr"] == {
        "descriptor_bytes": 16 * 16 + 16, "pin_atomics": 32, "struct_pages_touched": 0, "conversions": 0,
        "dma_maps": 16, "iotlb_syncs": 1, "bounced_bytes": 0, "ioptes": 16, "iotlb_hits": 0, "iotlb_misses": 17,
    }  # fmt: skip
    assert meters["page"] == {
        "descriptor_bytes": 16 * 16 + 16, "pin_atomics": 32, "struct_pages_touched": 48, "conversions": 32,
        "dma_maps": 16, "iotlb_syncs": 1, "bounced_bytes": 0, "ioptes": 16, "iotlb_hits": 0, "iotlb_misses": 17,
    }  # fmt: skip


@pytest.mark.parametrize("system", ["phyr", "page"])
def test_every_record_of_a_run_fits_the_schema_of_the_store(system):
    machine = machine_of(system=system, size="1100 KiB", count=300 if system == "phyr" else 2)
    machine.run()
    assert loads(dumps(machine.trace)) == machine.trace


def test_lazy_mode_flushes_when_its_queue_is_full():
    machine = machine_of(size="4 KiB", count=300)
    assert machine.run()["verified"]
    assert len(machine.trace.of(IotlbFlush)) >= 1
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_summary_says_what_was_run_and_what_came_of_it():
    report = machine_of(size="8 KiB", op="write", seed=3).run()
    assert set(report) == {
        "system", "device", "seed", "result", "phyrs", "bios", "requests", "dma", "pins", "meters", "sim_ns",
        "verified", "error", "scenario",
    }  # fmt: skip
    assert (report["system"], report["device"], report["seed"], report["result"]) == ("phyr", "nvme", 3, 8192)
    assert report["bios"] == [{"sector": 0, "bytes": 8192, "segments": 2}]
    assert [report["pins"][what] for what in ("taken", "released", "held", "policy")] == [2, 2, 0, "range"]
    assert Scenario.of(report["scenario"]).size == 8192
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize(
    ("knobs", "result", "sentence"),
    [
        ({"buffer": "unmapped"}, "-EFAULT", "gup: addr=0x7e0000000000 is not mapped (MM-4) (-EFAULT)"),
        (
            {"buffer": "readonly"},
            "-EFAULT",
            "gup: addr=0x7f0000000000 lies in r-- memory: no right to write to it (-EFAULT)",
        ),
        ({"size": 4000}, "-EINVAL", "pread64: count=4000 is not a multiple of 512 (O_DIRECT, DIO-3) (-EINVAL)"),
        ({"offset": 100}, "-EINVAL", "pread64: pos=100 is not a multiple of 512 (O_DIRECT, DIO-3) (-EINVAL)"),
        ({"skew": 2}, "-EINVAL", "pread64: buf=0x7f0000000002 is not a multiple of 4 (O_DIRECT, ITER-5) (-EINVAL)"),
        ({"size": "64 MiB"}, "-ENOMEM", "mm: a block of 4 KiB is not to be had in any zone (-ENOMEM)"),
    ],
)
def test_a_run_that_fails_says_why_and_raises_nothing(knobs, result, sentence, nothing_held):
    machine = machine_of(**knobs)
    report = machine.run()
    assert (report["result"], report["verified"], report["error"]) == (result, False, sentence)
    assert isinstance(machine.error, LabkitError)
    nothing_held(machine)


def test_a_readonly_buffer_can_be_written_to_the_device():
    assert machine_of(buffer="readonly", op="write", size="8 KiB").run()["verified"]


def test_a_hazard_in_an_io_beyond_the_device_is_refused_before_it_begins():
    machine = machine_of(offset="16 GiB", size=512, hazard="munmap")
    with pytest.raises(ScenarioError, match="ends beyond the device of 16 GiB"):
        machine.run()
    assert len(machine.trace) == 0


@pytest.mark.parametrize(
    ("op", "offset", "result"), [("read", 16 << 30, 0), ("read", (16 << 30) - 512, 512), ("write", 16 << 30, "-ENOSPC")]
)
def test_an_io_at_the_end_of_the_device_comes_to_what_the_kernel_says(op, offset, result):
    report = machine_of(offset=offset, size=4096, op=op).run()
    assert (report["result"], report["verified"]) == (result, result != "-ENOSPC")


def test_bytes_that_do_not_arrive_are_noticed(monkeypatch):
    machine = machine_of(size="8 KiB")
    monkeypatch.setattr(machine.device, "_move", lambda *_args: None)
    report = machine.run()
    assert (report["result"], report["verified"], report["error"]) == (8192, False, None)


def test_a_watcher_sees_the_records_of_the_trace():
    seen = []
    machine = machine_of(watch=(seen.append,), size="8 KiB")
    machine.run()
    assert tuple(seen) == machine.trace.records


def test_a_trace_says_where_its_numbers_come_from():
    machine = machine_of(size="8 KiB", system="page")
    machine.run()
    meta = machine.trace.meta
    assert meta["kernel"] == "7.3"
    assert meta["device"] == {"name": "nvme0n1", "nbytes": 16 << 30, "clock": "simulated"}
    assert meta["origin"] == {"memory": "upstream 7.3", "pins": "upstream 7.3"}
    assert (meta["verified"], meta["error"]) == (True, None)
    assert machine.trace.memory.zones == (("DMA", 0, 4096), ("DMA32", 4096, 16384))


def test_what_stays_from_an_earlier_life_is_in_the_trace_and_never_overlaps_the_buffer():
    machine = machine_of(size="1 MiB", fragmentation=0.7)
    machine.run()
    stays = [range(first, first + frames) for first, frames, _ in machine.trace.memory.others]
    mine = {pa >> 12 for pa, nbytes in machine.trace.of(GupPin)[0].ranges for pa in range(pa, pa + nbytes, 4096)}
    assert len(mine) == 256
    assert not any(frame in span for frame in mine for span in stays)


def test_a_fresh_page_is_zeros_whoever_had_the_frame_before():
    machine = machine_of(fragmentation=0)
    task = machine.task()
    first = task.mmap("8 KiB")
    task.store(first, b"secret!!" * 1024)
    task.munmap(first)
    second, fd = task.mmap("8 KiB"), task.open("/dev/nvme0n1")
    assert task.pwrite(fd, second, "8 KiB") == 8192
    assert task.load(second, 8192) == bytes(8192)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda task: task.mmap("some"),
            "mmap: length='some' is not a number of bytes such as 4096 or '1 MiB' (-EINVAL)",
        ),
        (lambda task: task.mmap(4096, folio="8 KiB"), "mmap: folio='8 KiB' is not one of 4KiB, 16KiB, "),
        (lambda task: task.load(0x1000, 8), "mm: addr=0x1000 is not present (-EFAULT)"),
        (lambda task: task.store(0x1000, b"x"), "mm: addr=0x1000+1 may not be written (-EFAULT)"),
        (lambda task: task.munmap(0x1001), "munmap: addr=0x1001 is not a multiple of 4096 (-EINVAL)"),
    ],
)
def test_a_task_is_told_what_it_did_wrong(call, sentence):
    with pytest.raises((BadInput, SyscallError)) as caught:
        call(machine_of().task())
    assert str(caught.value).startswith(sentence)


def test_a_task_sees_its_own_memory():
    task = machine_of().task()
    buf = task.mmap("12 KiB")
    task.store(buf + 4000, b"across the joint" * 300)
    assert task.load(buf + 4000, 4800) == b"across the joint" * 300
    assert [nbytes for _, nbytes in task.frames(buf + 4000, 200)] == [96, 104]
    with pytest.raises(SyscallError, match="may not be written"):
        task.store(buf + 12000, bytes(1000))
    with pytest.raises(SyscallError, match="may not be written"):
        task.store(task.mmap(4096, prot="r--"), b"x")


def test_a_machine_of_a_terabyte_boots_and_runs():
    report = Machine(ram="1 TiB", size="1 MiB", fragmentation=0.5).run()
    assert report["verified"]


@pytest.mark.parametrize("system", ["phyr", "page"])
@pytest.mark.parametrize("when", [1, 130, 500, 700, 900, 1200, 1500, 10_000])
@pytest.mark.filterwarnings("error")
def test_a_call_that_is_broken_off_leaves_no_complaint_behind(system, when):
    machine = machine_of(system=system, iommu="off")
    task = machine.task()
    machine.clock.job(task.syscalls.rw(task.open("/dev/nvme0n1"), task.mmap("64 KiB"), 65536, 0, write=False))
    machine.clock.run(until=when)
    del machine, task
    gc.collect()


def test_a_real_ctrl_c_waits_until_nothing_is_half_done_and_the_io_ends_later(nothing_held):
    pressed = []

    def watch(rec):
        if type(rec).__name__ == "DmaMap" and not pressed:
            pressed.append(rec.t)
            signal.raise_signal(signal.SIGINT)

    machine = machine_of(watch=(watch,))
    task = machine.task()
    fd, buf = task.open("/dev/nvme0n1"), task.mmap("64 KiB")
    with pytest.raises(KeyboardInterrupt):
        task.pread(fd, buf, "64 KiB")
    assert pressed == [machine.trace.of(DmaMap)[0].t]
    assert machine.trace.of(DeviceDma) == ()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert task.pread(fd, buf, "64 KiB") == 65536
    nothing_held(machine)


def test_the_next_call_does_not_hear_of_the_error_of_one_that_was_given_up(nothing_held):
    armed = [True]

    def strike(rec):
        if type(rec).__name__ == "BlockRqIssue" and armed and armed.pop():
            raise KeyboardInterrupt

    machine = machine_of(watch=(strike,))
    task = machine.task()
    fd, buf = task.open("/dev/nvme0n1"), task.mmap("64 KiB")
    machine.device._check = lambda _sqe: 0x281
    with pytest.raises(KeyboardInterrupt):
        task.pread(fd, buf, "64 KiB")
    machine.clock.run(until=machine.clock.now + 10_000_000)
    machine.device._check = lambda _sqe: 0
    assert task.pread(fd, buf, "64 KiB") == 65536
    nothing_held(machine)


def test_a_real_device_has_no_profile():
    with pytest.raises(BadInput, match=r"^profile: nbytes is no number of loop, which is a real device \(-EINVAL\)$"):
        Machine(device="loop", profile={"nbytes": 4096})
