"""The checker: a sound machine breaks nothing; what is broken is named, with the record that did it."""

import contextlib
import time

import pytest

from labkit.errors import SyscallError
from labkit.kernel.block.limits import QueueLimits
from labkit.machine import Machine
from labkit.machine.invariants.census import take_census
from labkit.machine.invariants.flight import translation
from labkit.machine.invariants.free_frames import check_buddy
from labkit.machine.invariants.limits import check_split, segments
from labkit.machine.invariants.memory import check_memory
from labkit.trace.events import BlockSplit, GupPin, Violation

KINDS = ("4KiB", "64KiB", "2MiB", "file", "file-private", "file-4MiB", "memfd", "zero", "ksm", "fork-shared", "hugetlb",
         "fsdax", "devdax", "p2pdma", "device-private", "device-coherent", "gpu", "foreign", "hidden", "cxl",
         "registered", "kvec")  # fmt: skip


def checked(**knobs):
    with Machine(**{"check": True, "size": "64 KiB"} | knobs) as machine:
        return machine.run(), machine


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", ["read", "write"])
def test_memory_of_every_kind_breaks_nothing(kind, op):
    assert checked(folio=kind, op=op)[0]["violations"] == []


@pytest.mark.parametrize("system", ["phyr", "page"])
@pytest.mark.parametrize("iommu", ["off", "lazy", "strict"])
@pytest.mark.parametrize("fragmentation", [0, 1])
def test_every_machine_breaks_nothing(system, iommu, fragmentation):
    report, machine = checked(system=system, iommu=iommu, fragmentation=fragmentation, size="1 MiB", skew=512, count=2)
    assert report["violations"] == []
    assert (report["survived"], report["verified"]) == (True, True)
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


@pytest.mark.parametrize("pin", ["page", "folio", "range", "lease"])
@pytest.mark.parametrize("chunk", [0, 16])
def test_every_way_to_pin_breaks_nothing(pin, chunk):
    assert checked(pin=pin, chunk=chunk, size="1 MiB", fragmentation=1)[0]["violations"] == []


def test_looking_changes_nothing():
    with Machine(size="256 KiB") as plain, Machine(size="256 KiB", check=True) as looked:
        plain.run()
        looked.run()
        assert plain.trace.records == looked.trace.records


def test_a_mebibyte_is_checked_in_seconds():
    begun = time.perf_counter()
    checked(size="1 MiB", fragmentation=1)
    assert time.perf_counter() - begun < 5


def test_without_a_pin_the_device_uses_memory_that_nobody_holds():
    report, _ = checked(pin="none")
    (broken,) = report["violations"]
    assert (broken["invariant"], broken["record"]) == ("dma-to-unpinned", "DeviceStart")
    assert not report["survived"]


@pytest.mark.parametrize("kind", ["4KiB", "file", "kvec", "pfnmap-ram", "hugetlb", "cxl", "registered"])
def test_a_task_that_maps_more_after_its_first_io_breaks_nothing(kind):
    with Machine(ram="512 MiB", fragmentation=1, check=True) as machine:
        task = machine.task()
        fd = task.open("/dev/nvme0n1")
        for _ in range(3):
            buf = task.mmap("256 KiB", folio=kind)
            task.store(buf, bytes(range(256)) * 16)
            with contextlib.suppress(SyscallError):  # pfnmap-ram takes no IO
                task.pread(fd, buf, "64 KiB")
            task.release(buf)
        assert [rec.text for rec in machine.trace.of(Violation)] == []


@pytest.mark.parametrize("system", ["phyr", "page"])
def test_a_registration_ends_though_its_mapping_is_gone(system):
    with Machine(ram="64 MiB", system=system) as machine:
        task = machine.task()
        buf, other = task.mmap("64 KiB", folio="registered"), task.mmap("64 KiB", folio="registered")
        task.munmap(buf)
        assert len(machine.ledger.held) == 2
        task.release(buf + 4096)
        task.munmap(other, 4096)  # the mapping begins elsewhere now
        task.release(other + 8192)
        assert machine.ledger.held == {}
        assert machine.fixed.rlimit_memlock is None
        assert list(check_memory(machine.frames, machine.mms)) == []


def test_what_is_registered_again_at_an_address_takes_the_place_of_what_was():
    with Machine(ram="64 MiB") as machine:
        task = machine.task()
        buf = task.mmap("64 KiB", folio="registered")
        machine.fixed.register(task, buf, 64 << 10)
        assert len(machine.ledger.held) == 1
        task.release(buf)
        assert machine.ledger.held == {}


def tell_through(monkeypatch, machine, emit):
    """Let every layer of the IO tell `emit` what it would tell the trace."""
    for holder in (machine.dio, machine.dio.by, machine.device, machine.queue, machine.nvme, machine.maps):
        names = [name for name in ("emit", "_emit") if hasattr(holder, name)]
        assert names
        monkeypatch.setattr(holder, names[0], emit)


def sabotage(monkeypatch, when, bug):
    """Run with `bug(machine)` done in the middle of the record `when`, and return the Violations."""
    machine = Machine(size="64 KiB", check=True, fragmentation=0)
    emit, done = machine.tracer.emit, []

    def emit_and_break(raw):
        if raw[0] == when and not done:
            done.append(bug(machine))
        emit(raw)

    tell_through(monkeypatch, machine, emit_and_break)
    machine.run()
    return [(rec.name, type(machine.trace.records[rec.at]).__name__) for rec in machine.trace.of(Violation)]


def first_folio(machine):
    return next(iter(machine.folios.by_head.values()))


def count_once_more(machine):
    first_folio(machine).refcount += 1


def free_it(machine):
    folio = first_folio(machine)
    machine.buddy.free_pages(folio.pfn, folio.order)


def lose_a_frame(machine):
    machine.buddy.alloc_pages(0)


def let_all_write(machine):
    vma = machine.mms[0].space.vmas[0]
    vma.prot = "r--"


def forget_the_pin(machine):
    machine.ledger.held.clear()


@pytest.mark.parametrize(
    ("when", "bug", "name", "record"),
    [
        ("GupPin", count_once_more, "counts", "GupPin"),
        ("GupPin", free_it, "frames", "GupPin"),
        ("GupPin", lose_a_frame, "buddy", "GupPin"),
        ("GupPin", let_all_write, "rights", "GupPin"),
        ("DeviceStart", forget_the_pin, "dma-to-unpinned", "DeviceStart"),
    ],
)
def test_what_is_broken_is_named_with_the_record_that_broke_it(monkeypatch, when, bug, name, record):
    assert (name, record) in sabotage(monkeypatch, when, bug)


def wrong_range(raw):
    return [*raw[:6], ((raw[6][0][0] + 4096, raw[6][0][1]), *raw[6][1:]), *raw[7:]]


def two_for_one(raw):
    (addr, nbytes), *rest = raw[6]
    return [*raw[:6], ((addr, 512), (addr + 512, nbytes - 512), *rest), *raw[7:]]


def short(raw):
    return [*raw[:5], ((raw[5][0][0], raw[5][0][1] - 512), *raw[5][1:]), *raw[6:]]


def with_a_gap(raw):
    (addr, nbytes), *rest = raw[5]
    return [*raw[:5], ((addr, 512), (addr + 1024, nbytes - 512), *rest), *raw[6:]]


def of_a_mebibyte(raw):
    return [*raw[:7], 2048, *raw[8:]]


def of_many_segments(raw):
    return [*raw[:8], 1000]


def with_one_prp_too_few(raw):
    return [*raw[:9], raw[9] - 1, *raw[10:]]


def that_begins_elsewhere(raw):
    return [*raw[:7], raw[7] + 512, *raw[8:]]


def elsewhere(raw):
    return [*raw[:5], ((raw[5][0][0] + (1 << 20), raw[5][0][1]), *raw[5][1:]), *raw[6:]]


@pytest.mark.parametrize(
    ("record", "lie", "name"),
    [
        ("GupPin", wrong_range, "translation"),
        ("GupPin", two_for_one, "phyrs"),
        ("DmaMap", short, "lengths"),
        ("DmaMap", elsewhere, "translation"),
        ("DmaMap", with_a_gap, "limits"),
        ("BlockGetrq", of_a_mebibyte, "limits"),
        ("BlockGetrq", of_many_segments, "limits"),
        ("NvmeSetupCmd", with_one_prp_too_few, "prps"),
        ("NvmeSetupCmd", that_begins_elsewhere, "prps"),
    ],
)
def test_a_layer_that_tells_of_other_bytes_is_found_out(monkeypatch, record, lie, name):
    machine = Machine(size="64 KiB", check=True, kernel="6.18", sgl_threshold=0)
    emit = machine.tracer.emit

    def lying(raw):
        emit(tuple(lie(raw)) if raw[0] == record else raw)

    tell_through(monkeypatch, machine, lying)
    machine.run()
    assert name in {rec.name for rec in machine.trace.of(Violation)}


LIMITS = QueueLimits(max_segment_size=8192, seg_boundary_mask=0xFFFF, logical_block_size=4096, physical_block_size=4096)


def test_segments_are_counted_anew_within_the_longest_and_the_boundary():
    assert segments(LIMITS, ((0x1000, 4096), (0x2000, 4096))) == 1
    assert segments(LIMITS, ((0x1000, 12288),)) == 2
    assert segments(LIMITS, ((0xF000, 8192),)) == 2
    assert segments(LIMITS, ((0xF000, 8192), (0x40000, 512))) == 3


def test_a_split_inside_a_logical_block_is_found():
    split = BlockSplit(t=0, io=1, bio=1, sector=0, new_sector=8)
    assert list(check_split(LIMITS, split)) == []
    (broken,) = check_split(LIMITS, split._replace(new_sector=9))
    assert broken.text == "bio 1 is split at sector 9, inside a block of 4096 bytes"


def test_the_translation_is_cut_to_the_bytes_and_joined():
    machine = Machine(ram="64 MiB", fragmentation=0)
    task = machine.task()
    buf = task.mmap("64 KiB")
    assert translation(task.mm, buf, 8192) == ()
    task.store(buf, bytes(16384))
    start = next(task.frames(buf, 1))[0]
    assert translation(task.mm, buf + 512, 8192) == ((start + 512, 8192),)
    assert translation(task.mm, buf + 512, 16384) == ()


def test_a_fresh_machine_is_sound():
    machine = Machine(ram="64 MiB")
    assert list(check_memory(machine.frames, machine.mms)) == []
    assert list(check_buddy(machine.buddy, take_census(machine.folios), None)) == []


def test_one_violation_is_told_once():
    report, machine = checked(pin="none", size="1 MiB", fragmentation=1)
    assert len(report["violations"]) == len({row["text"] for row in report["violations"]})
    assert len(machine.trace.of(Violation)) <= 16
    assert len(machine.trace.of(GupPin)) == 1


def forget_a_merge(raw, told):
    """Return nothing for the first bio that joins a request: the request has lost a piece."""
    if raw[0] == "BlockBioBackmerge" and not told:
        told.append(raw)
        return None
    return raw


def merge_at_the_wrong_end(raw, told):
    """Return the first merge as one before the start of the request."""
    if raw[0] == "BlockBioBackmerge" and not told:
        told.append(raw)
        return ("BlockBioFrontmerge", *raw[1:])
    return raw


def count_no_holes(raw, told):
    """Return bios that begin where the memory of the one before ended, as if no hole were between them."""
    if raw[0] == "BlockBioQueue" and raw[7] >= 0:
        told.append(raw)
        return (*raw[:7], sum(bio[5] << 9 for bio in told[:-1]), *raw[8:])
    return raw


def count_zeros_as_the_users(raw, told):
    """Return zeros beside the IO as its first bytes."""
    if raw[0] == "BlockBioQueue" and raw[7] < 0:
        told.append(raw)
        return (*raw[:7], 0, *raw[8:])
    return raw


def batch(task, fd):
    ring, buf = task.io_uring(), task.mmap("16 KiB")
    for at in range(0, 16384, 4096):
        ring.read(fd, buf + at, 4096, at)
    ring.submit()


def read_in_turns(task, fd):
    task.pread(fd, task.mmap("48 KiB"), "48 KiB")


def write_a_part(task, fd):
    task.pwrite(fd, task.mmap("4 KiB"), 512, 4096 + 512)


@pytest.mark.parametrize("system", ["page", "phyr", "unified"])
@pytest.mark.parametrize(
    ("work", "lie", "name"),
    [
        (batch, forget_a_merge, "lengths"),
        (batch, merge_at_the_wrong_end, "translation"),
        (read_in_turns, count_no_holes, "translation"),
        (write_a_part, count_zeros_as_the_users, "translation"),
    ],
)
@pytest.mark.parametrize("lying", [False, True], ids=["honest", "lying"])
def test_a_file_or_a_batch_that_is_told_wrongly_is_found_out(monkeypatch, system, work, lie, name, lying):
    machine, told = Machine(ram="64 MiB", fragmentation=0.9, check=True, system=system), []
    machine.volume.mkfs("ext4")
    inode = machine.volume.create("f")
    for pos in range(0, 49152, 12288):  # mapped, a hole, unwritten, in turns
        inode.fallocate(pos, 4096)
        inode.end_io(pos, 4096, unwritten=True, extend=True)
        inode.fallocate(pos + 8192, 4096)
    inode.truncate(49152)
    task, emit = machine.task(), machine.tracer.emit

    def emit_or_lie(raw):
        said = lie(raw, told) if lying else raw
        if said is not None:
            emit(said)

    tell_through(monkeypatch, machine, emit_or_lie)
    work(task, task.open("/mnt/f" if work is not batch else "/dev/nvme0n1"))
    machine.trial.judge(machine)
    found = {rec.name for rec in machine.trace.of(Violation)}
    assert bool(told) is lying
    assert (name in found) if lying else found == set()
