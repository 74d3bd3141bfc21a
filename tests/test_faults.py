"""Whatever breaks, and whenever: the errno is the kernel's, the trace tells why, and nothing is left."""

import json
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from labkit.errors import ScenarioError, SyscallError
from labkit.kernel.dma.iommu import IommuMap
from labkit.machine import Machine
from labkit.machine.build import DATA
from labkit.machine.faults.asked import MISFITS
from labkit.machine.faults.strikes import STRIKES
from labkit.trace.events import BlkMqRqTimedOut, BlockRqComplete, BlockRqRequeue, DmaMap, Fault, IoPageFault, SysExit

LABKIT = Path(sys.executable).with_name("labkit")
TABLE = tomllib.loads((DATA / "faults.toml").read_text("utf-8"))
SYSTEMS = ("phyr", "page", "unified", "premapped")
DEVICES = ("nvme", "virtio", "ahci", "pmem", "null")
LAST = {
    "media-error": "DeviceStart", "timeout": "BlockRqIssue", "lost-interrupt": "IotlbFill",
    "short-transfer": "DeviceStart", "iommu-fault": "DeviceStart", "iova-exhausted": "BlockGetrq",
    "swiotlb-full": "SwiotlbBounced", "queue-full": "BlockGetrq", "unplug": "DeviceStart", "wedged": "DeviceStart",
    "torn-write": "DeviceStart",
}  # fmt: skip
"""The last record of an IO of one request on NVMe that a fault may come with and still be felt: what looks at it
comes later in the code of the driver or the controller. A bounce is one of several: no two pages touch."""
REGISTERED = {"iova-exhausted": "GupPin"}
"""The same of an IO to registered memory, which is mapped once, as soon as it is pinned."""
HOW = {
    "iommu-fault": {"iommu": "strict"},
    "swiotlb-full": {"dma": "swiotlb", "fragmentation": 1.0},
    "torn-write": {"op": "write"},
}
"""What a fault needs to be possible at all."""


def nothing_left(machine, used=None):
    """Run the clock out, and assert that nobody holds pins, maps, tags, slots, lists or addresses; `used`: IOVAs."""
    machine.clock.run()
    assert machine.ledger.held == {}
    assert machine.frames.orphans == []
    assert (machine.queue.in_flight, machine.queue.timer.issued) == ({}, {})
    assert (machine.queue.tags.free, machine.queue.tags.waiting) == (machine.queue.tags.depth, 0)
    assert machine.maps is None or machine.maps.held == {}
    assert getattr(machine.driver, "outstanding", 0) == 0
    assert machine.nvme is None or machine.nvme.pool.in_use == 0
    if isinstance(machine.dma, IommuMap):
        assert machine.dma.queue == []
        assert used is None or machine.dma.iovas.used == used
    pool = getattr(machine.dma, "swiotlb", None)
    assert pool is None or pool.in_use == 0
    state = machine.snapshot()
    assert state == machine.trace.state_at(machine.clock.now)
    assert (state.pins, state.dma, state.tags) == ((), (), ())


def run(fault, **knobs):
    """Return (report, machine) of one IO that `fault` meets; nothing is left of it."""
    with Machine(**{"size": "16 KiB", "ram": "256 MiB", "faults": (fault,)} | knobs) as machine:
        used = machine.dma.iovas.used if isinstance(machine.dma, IommuMap) else None
        report = machine.run()
        nothing_left(machine, used)
        return report, machine


def events(**knobs):
    """Return the names of the records of one IO that nothing happens to, each once, in their order."""
    with Machine(**{"size": "16 KiB", "ram": "256 MiB"} | knobs) as machine:
        machine.run()
        found = list(machine.trace)
    first = next(i for i, rec in enumerate(found) if rec.io)
    return list(dict.fromkeys(type(rec).__name__ for rec in found[first:]))


def result(report):
    """Return "works", or the name of the errno without its sign."""
    return "works" if isinstance(report["result"], int) else report["result"].removeprefix("-")


def test_the_table_tells_of_every_kind():
    assert set(TABLE) == set(STRIKES) == set(MISFITS)
    assert all({"what", "rule", "nvme"} <= set(row) for row in TABLE.values())
    assert {row["rule"] for row in TABLE.values()} <= set(tomllib.loads((DATA / "rules.toml").read_text("utf-8")))


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("kind", LAST)
def test_every_fault_at_every_event_of_an_io(kind, system, op):
    if (kind, system) == ("swiotlb-full", "premapped"):
        pytest.skip("what is registered must be reached without a bounce (DMABUF-1)")
    knobs = {"system": system, "op": op} | HOW.get(kind, {})
    order, felt = events(**knobs), LAST | (REGISTERED if system == "premapped" else {})
    last = order.index(felt[kind])
    for at, event in enumerate(order):
        report, machine = run(f"{kind}@{event}", **knobs)
        (told,) = report["faults"]
        due = at <= last
        assert (event, result(report)) == (event, TABLE[kind]["nvme"]["result"] if due else "works")
        if kind != "torn-write" or due:
            assert (event, told["outcome"]) == (event, "struck" if due else "missed")
            assert report["verified"] == (result(report) == "works")
        assert [rec.kind for rec in machine.trace.of(Fault)] == [kind] or not due


REVOKED = {"folio": "gpu"}
CASES = [
    pytest.param(kind, device, marks=[pytest.mark.host] if device == "loop" else [])
    for kind, row in TABLE.items()
    for device in row
    if device in (*DEVICES, "loop")
]


@pytest.mark.parametrize("system", ["phyr", "page"])
@pytest.mark.parametrize(("kind", "device"), CASES, ids=str)
def test_every_driver_ends_an_io_as_the_table_says(kind, device, system):
    if kind == "revoke" and system == "page":
        pytest.skip("memory of a GPU has no struct pages: no IO begins (P2P-2)")
    knobs = {"device": device, "system": system} | HOW.get(kind, {}) | (REVOKED if kind == "revoke" else {})
    report, machine = run(f"{kind}@BlockGetrq", **knobs)
    assert result(report) == TABLE[kind][device]["result"]
    assert report["faults"][0]["outcome"] == "struck"
    assert [rec.kind for rec in machine.trace.of(Fault)] == [kind]


@pytest.mark.parametrize("device", [*DEVICES[1:], pytest.param("loop", marks=pytest.mark.host)])
@pytest.mark.parametrize("kind", [kind for kind in TABLE if kind != "revoke"])
def test_whenever_it_comes_nothing_is_left_by_any_driver(kind, device):
    """What the table has no line for cannot be, and is refused."""
    if device not in TABLE[kind]:
        with pytest.raises(ScenarioError, match="cannot be"):
            Machine(device=device, faults=(f"{kind}@DeviceStart",), **HOW.get(kind, {}))
        return
    knobs = {"device": device, "size": "64 KiB", "fragmentation": 1.0} | HOW.get(kind, {})
    for event in events(**knobs):
        report, _ = run(f"{kind}@{event}", **knobs)
        assert result(report) in {"works", TABLE[kind][device]["result"]}


PER_BACKEND = {"iommu-fault": ("strict", "lazy"), "iova-exhausted": ("strict", "lazy"), "swiotlb-full": ("swiotlb",)}
MANY = [
    (kind, dma)
    for kind in LAST
    for dma in PER_BACKEND.get(kind, ("direct", "strict", "lazy", "swiotlb"))
    if kind != "torn-write"
]


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize(("kind", "dma"), MANY, ids=str)
def test_what_breaks_in_an_io_of_many_requests_leaves_nothing_either(kind, dma, op):
    """Some of them are over by then, some wait, some are with the device: what comes of it is one of two things."""
    how = {"iommu": dma} if dma in {"strict", "lazy"} else {"dma": dma}
    knobs = how | {"op": op, "size": "1 MiB", "fragmentation": 1.0, "system": "page", "limits": {"nr_requests": 4}}
    for event in events(**knobs):
        report, _ = run(f"{kind}@{event}", **knobs)
        assert result(report) in {"works", TABLE[kind]["nvme"]["result"]}
        if report["faults"][0]["outcome"] == "missed":
            assert result(report) == "works"


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize("device", ["nvme", "virtio", "ahci", "null"])
@pytest.mark.parametrize("kind", [kind for kind in TABLE if kind not in {"revoke", "torn-write", "swiotlb-full"}])
def test_the_ios_of_others_on_the_same_queue_end_too(kind, device, op):
    if device not in TABLE[kind]:
        pytest.skip(f"{device} cannot have it")
    with Machine(device=device, ram="256 MiB", op=op, faults=(f"{kind}@BlockRqIssue",)) as machine:
        ends, used = {}, machine.dma.iovas.used if isinstance(machine.dma, IommuMap) else None

        def io(task, number):
            fd, buf = task.open(machine.volume.disk.path, "O_RDWR|O_DIRECT"), task.mmap("64 KiB")
            if number == 0:
                machine.trial.enter(machine, task)
            try:
                ends[number] = yield from task.syscalls.rw(fd, buf, 65536, number << 20, write=op == "write")
            except SyscallError as bad:
                ends[number] = bad.errno_name

        jobs = [machine.clock.job(io(machine.task(), number)) for number in range(6)]
        machine.clock.run(until=machine.clock.all_of(jobs))
        assert set(ends) == set(range(6))
        assert set(ends.values()) <= {65536, "-" + TABLE[kind][device]["result"], "-EIO"}
        nothing_left(machine, used)


@pytest.mark.parametrize("system", ["phyr", "page"])
@pytest.mark.parametrize("kind", LAST)
def test_no_invariant_is_broken_by_what_breaks(kind, system):
    report, _ = run(f"{kind}@{LAST[kind]}", check=True, system=system, **HOW.get(kind, {}))
    assert (report["violations"], report["faults"][0]["outcome"]) == ([], "struck")


def reason(fault, **knobs):
    """Return (actions of timeouts, trouble) of a run that `fault` meets."""
    _, machine = run(fault, **knobs)
    return [rec.action for rec in machine.trace.of(BlkMqRqTimedOut)], machine


def test_a_command_without_an_answer_is_aborted_after_30_s_and_its_errno_is_eio():
    actions, machine = reason("timeout@BlockRqIssue")
    assert actions == ["abort"]
    assert machine.trace.of(SysExit)[0].t // 1_000_000_000 == 30
    assert machine.trace.of(BlockRqComplete)[0].error == -5


def test_a_lost_interrupt_costs_30_s_and_nothing_else():
    actions, machine = reason("lost-interrupt@DeviceStart")
    assert actions == ["completion polled"]
    assert machine.trace.of(SysExit)[0].ret == 16384
    assert machine.trace.of(SysExit)[0].t // 1_000_000_000 == 30


def test_a_wedged_controller_is_dead_when_neither_abort_nor_reset_help():
    actions, machine = reason("wedged@DeviceStart")
    assert actions == ["abort", "reset failed: controller is dead"]
    assert machine.trace.of(SysExit)[0].t // 1_000_000_000 == 60


def test_an_io_page_fault_names_the_address_that_led_nowhere():
    _, machine = reason("iommu-fault@DeviceStart")
    (mapped,), (fault,) = machine.trace.of(DmaMap), machine.trace.of(IoPageFault)
    assert (fault.rq, fault.addr, fault.write) == (mapped.rq, mapped.dma[0][0], True)


def test_a_full_queue_is_asked_every_3_ms():
    _, machine = reason("queue-full@BlockGetrq")
    times = [rec.t for rec in machine.trace.of(BlockRqRequeue)]
    assert [after - before for before, after in pairwise(times)] == [3_000_000] * 2
    assert machine.trace.of(SysExit)[0].ret == 16384


def test_a_torn_write_says_which_sectors_the_medium_has():
    report, machine = run("torn-write@DeviceDma", op="write", size="1 MiB")
    (told,) = report["faults"]
    new, old = (int(word) for word in re.findall(r"[0-9]+", told["text"]))
    assert (new + old, told["outcome"]) == (2048, "struck")
    assert min(new, old) > 100
    assert not report["verified"]
    assert sum(machine.device.peek(i << 9, 512) == bytes(512) for i in range(2048)) == old


@pytest.mark.parametrize("device", ["nvme", "ahci"])
@pytest.mark.parametrize("dma", ["direct", "xen"])
def test_whatever_is_bounced_for_its_address_meets_a_pool_that_is_full(dma, device):
    report, _ = run("swiotlb-full@BlockGetrq", dma=dma, device=device, device_mask=32, ram="4 GiB")
    assert (report["result"], report["faults"][0]["outcome"]) == ("-ENOMEM", "struck")


def test_a_torn_write_across_the_end_of_the_device_counts_what_is_on_it():
    report, _ = run("torn-write@DeviceDma", op="write", offset=(16 << 30) - 4096)
    assert sum(int(word) for word in re.findall(r"[0-9]+", report["faults"][0]["text"])) == 8


def test_the_same_seed_tears_the_same_sectors_and_another_others():
    def text(seed):
        return run("torn-write@DeviceDma", op="write", size="1 MiB", seed=seed)[0]["faults"][0]["text"]

    assert text(1) == text(1) != text(2)


def test_later_ios_to_a_device_that_is_gone_end_at_once():
    with Machine(ram="256 MiB", size="4 KiB", faults=("unplug@DeviceStart",)) as machine:
        machine.run()
        task = machine.task()
        before = machine.clock.now
        with pytest.raises(SyscallError) as gone:
            task.pread(task.open("/dev/nvme0n1"), task.mmap("4 KiB"), "4 KiB")
        assert gone.value.errno_name == "-EIO"
        assert machine.clock.now - before < 10_000
        nothing_left(machine)


def test_two_faults_strike_one_after_the_other():
    report, machine = run("queue-full@BlockGetrq", faults=("queue-full@BlockGetrq", "media-error@DeviceStart"))
    assert [fault["outcome"] for fault in report["faults"]] == ["struck", "struck"]
    assert report["result"] == "-ENODATA"
    assert [rec.kind for rec in machine.trace.of(Fault)] == ["queue-full", "media-error"]


@pytest.mark.parametrize(
    "knobs",
    [{"fs": "ext4", "scatter": 1.0}, {"fs": "xfs", "direct": False}, {"api": "io_uring"}, {"stack": "stripe"},
     {"stack": "crypt"}, {"sched": "bfq"}, {"system": "premapped"}, {"kernel": "6.1", "system": "page"}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kind", [kind for kind in TABLE if kind not in {"revoke", "torn-write", "swiotlb-full"}])
def test_nothing_is_left_whatever_stands_above_the_driver(kind, knobs):
    for event in events(size="64 KiB", **knobs):
        run(f"{kind}@{event}", **{"size": "64 KiB"} | knobs)


@pytest.mark.parametrize("event", ["SysEnter", "BlockGetrq", "DmaMap", "DeviceStart", "DeviceDma"])
def test_memory_that_its_device_takes_back_is_an_io_error_or_none(event):
    report, _ = run(f"revoke@{event}", **REVOKED)
    expected = {"SysEnter": "ENODEV", "DeviceDma": "works"}.get(event, "EIO")
    assert (result(report), report["faults"][0]["outcome"] == "struck") == (expected, expected != "works")


@pytest.mark.parametrize(
    ("fault", "knobs", "why"),
    [
        ("nonsense@DeviceStart", {}, "is none of iommu-fault, iova-exhausted, lost-interrupt, media-error,"),
        ("timeout", {}, "names no record of the trace behind its @"),
        ("timeout@", {}, "names no record of the trace behind its @"),
        ("timeout@Nowhere", {}, "names no record of the trace behind its @"),
        ("@DeviceStart", {}, "is none of"),
        ("", {}, "is none of"),
        ("timeout@" + "x" * 1000, {}, "names no record"),
        ("swiotlb-full@DmaMap", {}, "cannot be: dma=iommu needs no bounce buffer"),
        ("iommu-fault@DmaMap", {"dma": "direct"}, "cannot be: dma=direct has no IOMMU"),
        ("iova-exhausted@DmaMap", {"device": "null"}, "cannot be: null has no bus between its memory and it"),
        ("torn-write@DeviceDma", {}, "cannot be: a read tears nothing, and op=read"),
        ("torn-write@DeviceDma", {"op": "write", "fs": "xfs", "flags": "RWF_APPEND"}, "RWF_APPEND writes elsewhere"),
        ("torn-write@DeviceDma", {"device": "loop", "op": "write"}, "cannot be: the medium of loop is a real file"),
        ("revoke@DeviceDma", {}, "cannot be: folio=4KiB is no device's memory that can be revoked, as gpu is"),
        ("wedged@DeviceDma", {"device": "pmem"}, "cannot be: pmem is memory, and takes no commands"),
    ],
)
def test_what_is_no_fault_or_cannot_be_is_refused_in_one_sentence(fault, knobs, why):
    with pytest.raises(ScenarioError) as refused:
        Machine(faults=(fault,), **knobs)
    assert why in str(refused.value)
    assert str(refused.value).startswith("fault: ")
    assert (refused.value.errno_name, str(refused.value).count("\n")) == ("-EINVAL", 0)
    assert len(str(refused.value)) < 300


def test_a_fault_whose_record_never_comes_is_missed():
    report, machine = run("timeout@VirtqueueAdd")
    assert report["faults"] == [{
        "kind": "timeout", "at": "VirtqueueAdd", "outcome": "missed", "text": "the IO never comes to VirtqueueAdd",
    }]  # fmt: skip
    assert (report["verified"], machine.trace.of(Fault)) == (True, ())


def labkit(*args):
    return subprocess.run([LABKIT, "run", *args], capture_output=True, text=True, check=False)


def test_the_command_line_tells_what_broke_and_leaves_with_the_errno():
    done = labkit("--fault", "media-error@DeviceStart", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["result"]) == (2, "-ENODATA")
    assert report["faults"][0]["outcome"] == "struck"
    text = labkit("--fault", "lost-interrupt@DeviceStart", "--size", "4KiB")
    assert text.returncode == 0
    assert "lost-interrupt at DeviceStart: struck, the next interrupt gets lost" in text.stdout


def test_the_command_line_refuses_a_fault_that_is_none():
    done = labkit("--fault", "nonsense@DeviceStart")
    assert done.returncode == 2
    assert done.stderr.startswith("fault: 'nonsense@DeviceStart' is none of ")


def test_a_scenario_file_places_faults(tmp_path):
    file = tmp_path / "broken.toml"
    file.write_text('size = "64 KiB"\nfaults = ["media-error@DeviceStart", "queue-full@SysEnter"]\n', "utf-8")
    done = labkit("--scenario", str(file), "--json")
    assert [fault["outcome"] for fault in json.loads(done.stdout)["faults"]] == ["struck", "struck"]
