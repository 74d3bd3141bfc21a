import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import ScenarioError, SyscallError
from labkit.kernel.mm.gup.phyrs import get_user_phyrs, pin_phyrs, put_user_phyrs, split_token
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.machine import Machine
from labkit.trace.events import (
    BlkdevDirectIO,
    BlockBioQueue,
    DeviceDma,
    FolioFlags,
    GupPin,
    GupUnpin,
    NvmeCompleteRq,
    SysExit,
)
from labkit.trace.meters import Pins, pins
from labkit.trace.state import state_at


def world_of(system, **knobs):
    machine = Machine(**{"system": system, "ram": "64 MiB", "fragmentation": 0, "iommu": "strict"} | knobs)
    task = machine.task()
    return machine, task, task.open("/dev/nvme0n1")


def refusal(call, *args):
    with pytest.raises(SyscallError) as caught:
        call(*args)
    return str(caught.value)


def half_mapped(task, pages):
    """Map `pages` pages with nothing behind them."""
    return task.mmap(pages * 4096)


@pytest.fixture(params=["phyr", "page", "page 6.18", "unified"])
def either(request):
    system, _, kernel = request.param.partition(" ")
    return world_of(system, kernel=kernel or "7.3")


def test_the_bytes_arrive_both_ways(either):
    machine, task, fd = either
    buf = task.mmap("64 KiB")
    task.store(buf, bytes(range(256)) * 256)
    assert task.pwrite(fd, buf, "64 KiB", 4096) == 65536
    assert machine.device.peek(4096, 65536) == bytes(range(256)) * 256
    other = task.mmap("64 KiB")
    assert task.pread(fd, other, "64 KiB", 4096) == 65536
    assert task.load(other, 65536) == bytes(range(256)) * 256


@pytest.mark.parametrize(("pages", "path"), [(1, "simple"), (256, "simple"), (257, "multi")])
def test_up_to_256_pages_the_way_is_simple_and_always_where_no_table_is_needed(either, pages, path):
    machine, task, fd = either
    buf = task.mmap(pages * 4096)
    task.pread(fd, buf, pages * 4096)
    told = path if machine.currency.name == "page" else "simple"
    assert [rec.path for rec in machine.trace.of(BlkdevDirectIO)] == [told]


def test_the_pages_that_a_buffer_spans_decide_not_its_bytes():
    machine, task, fd = world_of("page")
    buf = task.mmap(257 * 4096)
    task.pread(fd, buf + 512, 256 * 4096)
    assert machine.trace.of(BlkdevDirectIO)[0].path == "multi"


def test_rule_r6_a_half_mapped_buffer_of_few_pages_is_a_short_count_in_pages(nothing_held):
    machine, task, fd = world_of("page")
    machine.device.poke(0, b"k" * 16384)
    buf = half_mapped(task, 2)
    assert task.pread(fd, buf, 16384) == 8192
    assert task.load(buf, 8192) == b"k" * 8192
    assert machine.trace.of(SysExit)[0].ret == 8192
    nothing_held(machine)


def test_rule_r6_a_half_mapped_buffer_of_many_pages_is_efault_though_the_first_bio_was_done(nothing_held):
    machine, task, fd = world_of("page")
    buf = half_mapped(task, 260)
    task.store(buf, b"w" * (260 * 4096))
    sentence = refusal(task.pwrite, fd, buf, 300 * 4096)
    assert sentence == f"gup: addr={buf + 260 * 4096:#x} is not mapped (MM-4) (-EFAULT)"
    assert sum(rec.len for rec in machine.trace.of(DeviceDma)) == 260 * 4096
    assert machine.device.peek(0, 4096) == b"w" * 4096
    nothing_held(machine)


@pytest.mark.parametrize("system", ["phyr", "unified"])
@pytest.mark.parametrize("pages", [2, 260])
def test_difference_d4_what_is_pinned_at_the_start_fails_before_any_bio(system, pages, nothing_held):
    machine, task, fd = world_of(system)
    buf = half_mapped(task, pages)
    sentence = refusal(task.pwrite, fd, buf, (pages + 2) * 4096)
    assert sentence == f"gup: addr={buf + pages * 4096:#x} is not mapped (MM-4) (-EFAULT)"
    assert machine.trace.of(BlockBioQueue) == machine.trace.of(GupPin) == ()
    nothing_held(machine)


def test_nothing_mapped_is_efault_in_all(either, nothing_held):
    machine, task, fd = either
    assert refusal(task.pread, fd, 0x600000000000, 4096) == "gup: addr=0x600000000000 is not mapped (MM-4) (-EFAULT)"
    assert machine.trace.of(BlockBioQueue) == ()
    nothing_held(machine)


def test_less_than_a_logical_block_of_memory_is_efault_in_all(either, nothing_held):
    machine, task, fd = either
    buf = half_mapped(task, 1)
    assert "(-EFAULT)" in refusal(task.pread, fd, buf + 4092, 4096)
    nothing_held(machine)


def test_memory_that_runs_out_half_way_is_a_short_count_in_pages_and_enomem_elsewhere(either, nothing_held):
    machine, task, fd = either
    buf = task.mmap("64 KiB")
    for zone in machine.buddy.zones:
        zone.offline_pages()
    machine.buddy.zones[0].pcp[0] = [5000, 5002, 5004]
    if machine.currency.name == "page":
        assert task.pread(fd, buf, "64 KiB") == 12288
    else:
        assert "(-ENOMEM)" in refusal(task.pread, fd, buf, "64 KiB")
    nothing_held(machine)


def test_a_pin_that_the_split_refuses_is_let_go_of(nothing_held):
    machine, task, fd = world_of("page", kernel="6.18")
    buf = task.mmap("64 KiB")
    assert refusal(task.pread, fd, buf + 2, 8192).endswith("is not a multiple of 4 (SPLIT-3) (-EINVAL)")
    nothing_held(machine)


def test_rule_r8_memory_inside_one_page_is_not_checked_in_618_and_is_in_phyr():
    machine, task, fd = world_of("page", kernel="6.18")
    assert task.pread(fd, task.mmap(4096) + 4, 512) == 512
    assert refusal(task.pread, fd, task.mmap(4096) + 2, 512).endswith("failed in the device (BLK-1) (-EIO)")
    assert [rec.status for rec in machine.trace.of(NvmeCompleteRq)] == [0, 0x13]  # the drive had the last word
    _, task, fd = world_of("phyr")
    assert refusal(task.pread, fd, task.mmap(4096) + 2, 512).endswith("(O_DIRECT, ITER-5) (-EINVAL)")


def test_page_lets_go_of_each_bio_as_it_ends_and_phyr_of_all_at_the_end():
    trace = {}
    for system in ("page", "phyr"):
        machine, task, fd = world_of(system, fragmentation=1.0, ram="256 MiB")
        task.pread(fd, task.mmap("4 MiB"), "4 MiB")
        trace[system] = machine.trace
    assert len(trace["page"].of(GupUnpin)) == 4
    assert len({rec.t for rec in trace["page"].of(GupUnpin)}) > 1
    assert len(trace["phyr"].of(GupUnpin)) == 1
    assert [len(rec.ranges) for rec in trace["page"].of(GupPin)] == [256, 256, 256, 256]
    assert [len(rec.ranges) for rec in trace["phyr"].of(GupPin)] == [1024]


def test_the_first_bio_that_fails_is_the_result(either, monkeypatch, nothing_held):
    machine, task, fd = either
    monkeypatch.setattr(machine.device, "_check", lambda sqe: 0x281 if sqe[6] >= 256 else 0)
    assert refusal(task.pread, fd, task.mmap("512 KiB"), "512 KiB") == (
        "pread64: nvme0n1 sector 0+1024 failed in the device (BLK-1) (-ENODATA)"
    )
    nothing_held(machine)


def test_munmap_during_an_io_takes_the_mapping_and_leaves_the_memory_until_the_end(either, nothing_held):
    machine, task, fd = either
    machine.device.poke(0, b"m" * 65536)
    buf = task.mmap("64 KiB")
    free = machine.buddy.nr_free
    call = machine.clock.job(task.syscalls.rw(fd, buf, 65536, 0, write=False))
    machine.clock.run(until=10_000)
    task.munmap(buf)
    assert len(machine.folios.by_head) == 16
    assert machine.buddy.nr_free == free - 16
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
    assert machine.clock.run(until=call) == 65536
    assert machine.folios.by_head == {}
    assert machine.buddy.nr_free == free
    nothing_held(machine)


def test_two_ios_on_one_buffer_each_hold_it(either, nothing_held):
    machine, task, fd = either
    buf = task.mmap("64 KiB")
    calls = [machine.clock.job(task.syscalls.rw(fd, buf, 65536, pos, write=False)) for pos in (0, 1 << 20)]
    machine.clock.run(until=10_000)
    assert [pin.io for pin in machine.snapshot().pins] == [1, 2]
    task.munmap(buf)
    machine.clock.run(until=machine.clock.all_of(calls))
    assert machine.folios.by_head == {}
    nothing_held(machine)


@pytest.mark.parametrize("pin", ["page", "folio", "range", "lease", "none"])
def test_phyr_pins_as_the_scenario_says_and_the_bytes_arrive(pin, nothing_held):
    machine, task, fd = world_of("phyr", pin=pin)
    machine.device.poke(0, b"p" * 65536)
    buf = task.mmap("64 KiB")
    assert task.pread(fd, buf, "64 KiB") == 65536
    assert task.load(buf, 65536) == b"p" * 65536
    (rec,) = machine.trace.of(GupPin)
    assert (rec.policy, rec.mm, rec.faults) == (pin, 0, 16)
    assert (rec.atomics, rec.cache_lines, rec.struct_pages) == {
        "page": (16, 16, 16), "folio": (16, 16, 16), "range": (1, 1, 0), "lease": (1, 1, 0), "none": (0, 0, 0),
    }[pin]  # fmt: skip
    nothing_held(machine)


@pytest.mark.parametrize("chunk", [16, 512])
def test_phyr_in_chunks_pins_each_on_its_own_and_lets_go_of_all_at_the_end(chunk, nothing_held):
    machine, task, fd = world_of("phyr", fragmentation=1.0, ram="256 MiB", chunk=chunk)
    machine.device.poke(0, b"c" * (4 << 20))
    buf = task.mmap("4 MiB")
    assert task.pread(fd, buf, "4 MiB") == 4 << 20
    assert task.load(buf, 4 << 20) == b"c" * (4 << 20)
    assert [len(rec.ranges) for rec in machine.trace.of(GupPin)] == [chunk] * (1024 // chunk)
    assert len({rec.t for rec in machine.trace.of(GupUnpin)}) == 1
    nothing_held(machine)


def test_phyr_in_chunks_has_moved_what_came_before_a_page_that_cannot_be_had(nothing_held):
    machine, task, fd = world_of("phyr", fragmentation=1.0, chunk=16)
    assert task.pread(fd, half_mapped(task, 20), 40 * 4096) == 20 * 4096
    nothing_held(machine)


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"pin": "range"}, "pin=range is for system=phyr: struct pages are counted page by page"),
        ({"chunk": 16}, "chunk=16 is for system=phyr: struct pages come as many as a bio has vectors"),
    ],
)
def test_pages_are_pinned_page_by_page_and_no_other_way(knobs, sentence):
    with pytest.raises(ScenarioError) as caught:
        Machine(system="page", **knobs)
    assert str(caught.value) == f"scenario: it cannot be: {sentence} (-EINVAL)"
    assert Machine(system="page", pin="page").currency.policy == "page"


def test_memory_that_was_read_into_is_told_to_be_dirty_once(either):
    machine, task, fd = either
    buf = task.mmap("64 KiB")
    for _ in range(2):
        task.pread(fd, buf, "64 KiB")
    task.pwrite(fd, task.mmap("64 KiB"), "64 KiB")
    (rec,) = machine.trace.of(FolioFlags)
    assert (rec.io, sum(nbytes for _, nbytes in rec.ranges), rec.put, rec.take) == (1, 65536, 1 << 4, 0)


def test_rule_mm25_long_reads_of_pages_are_dirty_before_the_io_short_ones_and_phyrs_after_it():
    order = {}
    for system, size in (("page", "64 KiB"), ("page", "2 MiB"), ("phyr", "2 MiB"), ("unified", "2 MiB")):
        machine, task, fd = world_of(system)
        task.pread(fd, task.mmap(size), size)
        kinds = [type(rec) for rec in machine.trace.records]
        order[system, size] = kinds.index(GupPin) < kinds.index(FolioFlags) < kinds.index(BlockBioQueue)
    assert order == {
        ("page", "64 KiB"): False, ("page", "2 MiB"): True, ("phyr", "2 MiB"): False, ("unified", "2 MiB"): False,
    }  # fmt: skip


@pytest.mark.parametrize(("pin", "gone"), [("page", 0), ("folio", 0), ("range", 0), ("lease", 0), ("none", 16)])
def test_memory_that_nothing_protects_is_gone_while_the_device_still_writes(pin, gone):
    machine, task, fd = world_of("phyr", pin=pin)
    buf = task.mmap("64 KiB")
    task.store(buf, bytes(65536))
    free = machine.buddy.nr_free
    call = machine.clock.job(task.syscalls.rw(fd, buf, 65536, 0, write=False))
    machine.clock.run(until=10_000)
    task.munmap(buf)
    assert machine.buddy.nr_free == free + gone
    assert machine.clock.run(until=call) == 65536
    assert machine.buddy.nr_free == free + 16


def test_a_mebibyte_of_a_huge_page_costs_page_one_locked_operation_and_two_lines():
    machine, task, fd = world_of("page")
    buf = task.mmap("2 MiB", "2 MiB")
    task.store(buf, bytes(4096))
    task.pread(fd, buf, "1 MiB")
    (rec,) = machine.trace.of(GupPin)
    assert (rec.atomics, rec.cache_lines, rec.struct_pages) == (1, 2, 256)


def test_rule_mm15_a_write_of_untouched_memory_pins_no_page_either_way(either):
    machine, task, fd = either
    assert task.pwrite(fd, task.mmap("64 KiB"), "64 KiB") == 65536
    assert all((rec.atomics, rec.cache_lines) == (0, 0) for rec in machine.trace.of(GupPin))
    assert pins(machine.trace.records) == Pins(0, 0)


def test_the_trace_tells_of_pins_that_a_task_takes_by_itself(either):
    machine, task, _ = either
    buf = task.mmap("64 KiB")
    task.store(buf, bytes(65536))
    token, _ = pin_phyrs(task.mm, get_user_phyrs(task.mm, buf, 65536, write=True).phyrs, POLICIES["page"], addr=buf)
    assert machine.snapshot() == state_at(machine.trace.records, machine.clock.now)
    parts = split_token(task.mm, token, 512)
    assert machine.snapshot() == state_at(machine.trace.records, machine.clock.now)
    task.munmap(buf)
    for part in parts:
        put_user_phyrs(task.mm, part)
        assert machine.snapshot() == state_at(machine.trace.records, machine.clock.now)
    assert machine.folios.by_head == {}


@pytest.mark.parametrize(
    ("skew", "buffer", "pages", "others"),
    [(0, "mapped", 8192, 8192), (2, "mapped", 8192, "-EINVAL"), (0, "readonly", "-EFAULT", "-EFAULT")],
)
@pytest.mark.parametrize("system", ["phyr", "page", "page 6.18", "unified"])
def test_difference_d5_a_hole_looks_at_no_alignment_in_pages_and_what_is_pinned_first_does(
    system, skew, buffer, pages, others, nothing_held
):
    name, _, kernel = system.partition(" ")
    machine = Machine(
        system=name, kernel=kernel or "7.3", fs="ext4", extents="hole", size="8 KiB", skew=skew, buffer=buffer,
        ram="64 MiB",
    )  # fmt: skip
    report = machine.run()
    assert report["result"] == (pages if name == "page" else others)
    assert machine.trace.of(BlockBioQueue) == ()
    assert (len(machine.trace.of(GupPin)) == 0) is (name == "page" or others != 8192)
    nothing_held(machine)


@pytest.mark.parametrize("fs", ["raw", "ext4"])
def test_rule_dio14_half_a_buffer_is_a_short_count_of_a_device_and_an_error_of_a_file(fs, nothing_held):
    machine = Machine(system="page", fs=fs, size="8 KiB", ram="64 MiB", fragmentation=0)
    machine.run()
    task = machine.task()
    fd = task.open("/dev/nvme0n1" if fs == "raw" else "/mnt/file")
    buf = half_mapped(task, 1)
    result = outcome(task.pread, fd, buf, 8192)
    assert result == (4096 if fs == "raw" else "-EFAULT")
    assert machine.trace.of(BlockBioQueue)[-1].nr_sector == 8
    nothing_held(machine)


def outcome(call, *args):
    try:
        return call(*args)
    except SyscallError as bad:
        return bad.errno_name


@given(
    ios=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40), st.booleans()), min_size=1, max_size=5),
    extents=st.sampled_from(["mapped", "hole", "unwritten", "mixed", "shared"]),
    fs=st.sampled_from(["ext4", "xfs"]),
)
@settings(deadline=None, max_examples=60)
def test_invariant_8_on_files_every_currency_moves_the_same_bytes(ios, extents, fs):
    ends = {}
    for system in ("phyr", "page", "page 6.18", "unified"):
        name, _, kernel = system.partition(" ")
        machine = Machine(
            system=name, kernel=kernel or "7.3", fs=fs, extents=extents, size="48 KiB", ram="64 MiB", fragmentation=0
        )
        machine.run()
        task = machine.task()
        fd, buf, story = task.open("/mnt/file"), task.mmap("64 KiB"), []
        task.store(buf, bytes(range(256)) * 256)
        for sector, sectors, write in ios:
            moved = outcome(task.pwrite if write else task.pread, fd, buf, sectors * 512, sector * 512)
            story.append((moved, task.load(buf, 65536)))
        assert machine.ledger.held == {}
        story.append(outcome(task.pread, fd, buf, 65536, 0))
        ends[system] = (story, task.load(buf, 65536))
    assert ends["phyr"] == ends["page"] == ends["page 6.18"] == ends["unified"]
