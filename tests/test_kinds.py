import errno
import re
from pathlib import Path

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.space.vma import VM_HUGETLB, VM_IO, VM_MIXEDMAP, VM_PFNMAP, VM_SHARED
from labkit.machine import Machine
from labkit.machine.kinds import table
from labkit.scenario import KINDS
from labkit.trace.events import DmaMap, GupPin, MemremapPages, MemunmapPages
from labkit.trace.store import dumps, loads

ROWS = {row.name: row for row in table()}
GIB = {"hugetlb1g": "4 GiB"}


def machine_of(kind, **knobs):
    return Machine(**({"ram": GIB.get(kind, "128 MiB"), "folio": kind, "size": "72 KiB", "fragmentation": 0.5} | knobs))


def frames_of(machine):
    return machine.buddy.nr_free


def test_the_table_tells_of_every_kind_that_a_scenario_may_ask_for():
    assert tuple(ROWS) == KINDS
    assert all(row.what.endswith(".") and row.today.evidence and row.phyr.evidence for row in ROWS.values())
    assert {row.label for row in ROWS.values()} == {"proposed", "ours"}
    results = {out.read for row in ROWS.values() for out in (row.today, row.phyr)}
    assert results == {"works", "EFAULT", "ENODEV"}


FLAGS = {
    "VM_SHARED": VM_SHARED,
    "VM_PFNMAP": VM_PFNMAP,
    "VM_IO": VM_IO,
    "VM_HUGETLB": VM_HUGETLB,
    "VM_MIXEDMAP": VM_MIXEDMAP,
}


@pytest.mark.parametrize("kind", [name for name in KINDS if name not in {"guest-memfd-private", "kvec"}])
def test_its_mapping_has_the_flags_of_the_table(kind):
    machine = machine_of(kind, system="page")
    task = machine.task()
    vma = task.mm.space.find_vma(task.mmap("8 KiB", folio=kind))
    told = ROWS[kind].vm_flags.split(";")[0]
    assert {name for name, bit in FLAGS.items() if vma.flags & bit} == set(filter(None, told.split("|")))


def test_memory_without_struct_pages_is_what_devices_have_and_others_keep():
    assert [name for name, row in ROWS.items() if not row.struct_pages] == ["gpu", "vfio", "foreign", "hidden"]


def test_phyr_takes_all_that_page_takes_and_three_kinds_more():
    more = [name for name, row in ROWS.items() if row.today.read != "works" and row.phyr.read == "works"]
    assert more == ["gpu", "vfio", "hidden"]
    assert [name for name, row in ROWS.items() if row.today.read == "works" and row.phyr.read != "works"] == []


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize("system", ["page", "phyr"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_what_the_table_says(kind, system, op, nothing_held):
    outcome = ROWS[kind].today if system == "page" else ROWS[kind].phyr
    machine = machine_of(kind, system=system, op=op)
    report = machine.run()
    want = getattr(outcome, op)
    if want == "works":
        assert (report["verified"], report["result"], report["error"]) == (True, 73728, None)
    else:
        assert machine.error.errno == getattr(errno, want)
        assert report["result"] == f"-{want}"
    assert report["pins"]["held"] == 0
    nothing_held(machine)


@pytest.mark.parametrize("iommu", ["off", "strict"])
@pytest.mark.parametrize("system", ["page", "phyr"])
@pytest.mark.parametrize("kind", [name for name, row in ROWS.items() if row.phyr.read == "works"])
def test_it_is_the_same_with_the_iommu_and_without_and_for_bytes_that_begin_inside_a_page(
    kind, system, iommu, nothing_held
):
    machine = machine_of(kind, system=system, iommu=iommu, skew=512, size="24 KiB", count=3)
    outcome = ROWS[kind].today if system == "page" else ROWS[kind].phyr
    assert machine.run()["verified"] == (outcome.read == "works")
    nothing_held(machine)


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_maps_it_and_lets_go_and_the_machine_has_what_it_had(kind, nothing_held):
    machine = machine_of(kind, system="phyr", fragmentation=0)
    task = machine.task()
    if kind == "guest-memfd-private":
        with pytest.raises(SyscallError, match=r"guest_memfd is private to its guest, and nobody maps it \(-ENODEV\)"):
            task.mmap("1 MiB", folio=kind)
        return
    buf = task.mmap("72 KiB", folio=kind)
    if task.writable(buf):
        task.store(buf + 5000, b"phyr")
        assert task.load(buf + 5000, 4) == b"phyr"
    task.settle(buf)
    task.release(buf)
    if kind != "kvec":
        task.munmap(buf)
        assert task.mm.space.find_vma(buf) is None
    nothing_held(machine)


@pytest.mark.parametrize("kind", KINDS)
def test_its_trace_survives_a_file(kind):
    machine = machine_of(kind, system="phyr", size="8 KiB")
    machine.run()
    again = loads(dumps(machine.trace))
    assert again.records == machine.trace.records
    assert again.state_at(machine.clock.now) == machine.snapshot()


@pytest.mark.parametrize(
    ("kind", "system", "phyrs", "cls"),
    [
        ("gpu", "phyr", 1, "mmio"),
        ("hidden", "phyr", 1, "ram"),
        ("p2pdma", "phyr", 1, "mmio"),
        ("fsdax", "phyr", 1, "ram"),
    ],
)
def test_memory_of_a_device_is_one_range_of_its_class(kind, system, phyrs, cls):
    machine = machine_of(kind, system=system, iommu="off")
    assert len(machine.run()["phyrs"]) == phyrs
    seen = []
    dma_map = machine.maps.map
    machine.maps.map = lambda rq, **how: seen.append(rq.cls.kind) or dma_map(rq, **how)
    task = machine.task()
    buf = task.mmap("8 KiB", folio=kind)
    task.pread(task.open("/dev/nvme0n1"), buf, 4096)
    assert seen == [cls]


def test_a_grant_is_made_up_pages_today_and_machine_addresses_as_phyrs():
    knobs = {"iommu": "off", "size": "16 KiB"}
    page, phyr = machine_of("foreign", system="page", kernel="6.18", **knobs), machine_of("foreign", **knobs)
    page.run()
    phyr.run()
    assert [(rec.name, rec.frames) for rec in page.trace.of(MemremapPages)] == [("foreign0", 4)]
    assert [(rec.name, rec.frames) for rec in phyr.trace.of(MemremapPages)] == [("foreign0", 0)]
    machine = 0x800_0000  # the first section above 128 MiB of RAM
    (made_up,), (direct,) = page.trace.of(GupPin), phyr.trace.of(GupPin)
    assert made_up.ranges == ((0x820_0000, 16384),)  # what goes on in the guest
    assert direct.ranges == ((machine, 4096), (machine + 8192, 4096), (machine + 4096, 4096), (machine + 12288, 4096))
    assert page.trace.of(DmaMap)[0].dma == phyr.trace.of(DmaMap)[0].dma == direct.ranges  # does not in the machine


@pytest.mark.parametrize("system", ["page", "unified", "phyr"])
def test_zeros_for_a_hole_reach_a_grant_where_the_hole_is_and_nowhere_else(system):
    report = machine_of("foreign", system=system, fs="ext4", extents="mixed", size="2 MiB").run()
    assert (report["verified"], report["error"]) == (True, None)


def test_hidden_ram_costs_no_struct_page_and_is_no_memory_of_the_allocator():
    machine = machine_of("hidden", system="phyr")
    before = frames_of(machine)
    task = machine.task()
    task.mmap("8 MiB", folio="hidden")
    assert frames_of(machine) == before
    assert machine.snapshot().folios == ()


def test_a_gpu_that_is_unplugged_is_ENODEV_for_phyrs_and_nothing_for_the_cpu():
    machine = machine_of("gpu", system="phyr")
    task = machine.task()
    buf, fd = task.mmap("64 KiB", folio="gpu"), task.open("/dev/nvme0n1")
    assert task.pread(fd, buf, 4096) == 4096
    assert machine.slots.unplug("gpu0") == ()
    with pytest.raises(SyscallError, match=r"gup: addr=\S+ lies in gpu, whose owner has revoked it .*\(-ENODEV\)"):
        task.pread(fd, buf, 4096)
    with pytest.raises(SyscallError, match=r"mm: addr=\S+ lies in gpu, which is revoked \(SIGBUS\) \(-EFAULT\)"):
        task.store(buf, b"x")
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
    assert machine.buddy.memblock.devices == ()
    with pytest.raises(BadInput, match=r"machine: name='gpu0' is not one of  ?\(-ENOENT\)"):
        machine.slots.unplug("gpu0")


@pytest.mark.parametrize("system", ["page", "phyr"])
@pytest.mark.parametrize("kind", ["gpu", "vfio", "foreign", "fsdax", "devdax", "p2pdma", "device-coherent"])
def test_what_was_plugged_in_can_be_unplugged_and_leaves_nothing(kind, system):
    machine = machine_of(kind, system=system)
    task, mapped = machine.task(), machine.ram._pieces[:]
    for number in range(2):
        buf = task.mmap("64 KiB", folio=kind)
        task.store(buf, b"mine")
        assert machine.slots.unplug(f"{kind}0") == ()
        with pytest.raises(SyscallError, match=r"\(SIGBUS\) \(-EFAULT\)"):
            task.store(buf, b"x")
        assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
        assert len(machine.trace.of(MemunmapPages)) == number + 1
    assert (machine.slots.plugged, machine.slots.p2m, machine.buddy.memblock.devices) == ({}, {}, ())
    assert machine.ram._pieces == mapped
    assert machine.snapshot().folios == ()


def test_ram_that_was_hidden_for_guests_stays_hidden():
    machine = machine_of("hidden", system="phyr")
    machine.task().mmap("64 KiB", folio="hidden")
    before = machine.snapshot()
    with pytest.raises(SyscallError, match=r"provider: hidden0 promised to stay, and is not revoked"):
        machine.slots.unplug("hidden0")
    assert machine.snapshot() == before


def test_a_gpu_that_is_unplugged_during_an_io_goes_when_the_io_ends(nothing_held):
    machine = machine_of("gpu", system="phyr")
    task = machine.task()
    buf, fd = task.mmap("64 KiB", folio="gpu"), task.open("/dev/nvme0n1")
    call = machine.clock.job(task.syscalls.rw(fd, buf, 65536, 0, write=False))
    while not machine.ledger.held:
        machine.clock.step()
    assert machine.slots.unplug("gpu0") == tuple(machine.ledger.held)
    assert machine.clock.run(until=call) == 65536
    assert machine.slots.unplug("gpu0") == ()
    nothing_held(machine)


def test_p2pdma_pages_that_are_pinned_keep_their_device_in():
    machine = machine_of("p2pdma", system="phyr")
    task = machine.task()
    buf, fd = task.mmap("64 KiB", folio="p2pdma"), task.open("/dev/nvme0n1")
    call = machine.clock.job(task.syscalls.rw(fd, buf, 65536, 0, write=False))
    while not machine.ledger.held:
        machine.clock.step()
    with pytest.raises(SyscallError, match=r"memremap: p2pdma0 is pinned: it goes when that ends \(-EBUSY\)"):
        machine.slots.unplug("p2pdma0")
    machine.clock.run(until=call)
    assert machine.slots.unplug("p2pdma0") == ()
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
    assert machine.snapshot().folios == ()


@pytest.mark.parametrize("system", ["page", "phyr"])
def test_a_registered_buffer_is_pinned_once_for_all_its_ios(system, nothing_held):
    machine = machine_of("registered", system=system)
    task = machine.task()
    buf, fd = task.mmap("64 KiB", folio="registered"), task.open("/dev/nvme0n1")
    for _ in range(3):
        task.pread(fd, buf + 4096, "16 KiB")
    pins = machine.trace.of(GupPin)
    assert [(pin.io, pin.policy, pin.ptes) for pin in pins[1:]] == [(1, "none", 0), (2, "none", 0), (3, "none", 0)]
    assert (pins[0].io, pins[0].ptes, sum(n for _, n in pins[0].ranges)) == (0, 16, 65536)
    assert list(machine.ledger.held) == [pins[0].token]
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
    more = task.mmap("4 KiB", folio="registered")
    assert machine.trace.of(GupPin)[-1].policy == {"page": "page", "phyr": "range"}[system]
    task.release(buf)
    task.release(more)
    nothing_held(machine)


def test_a_task_registers_no_more_than_its_limit():
    machine = machine_of("registered", system="phyr")
    machine.fixed.rlimit_memlock = 64 << 10
    task = machine.task()
    buf = task.mmap("48 KiB", folio="registered")
    with pytest.raises(SyscallError, match=r"io_uring: 72 KiB to register is more than the 64 KiB of RLIMIT_MEMLOCK"):
        task.mmap("24 KiB", folio="registered")
    assert (len(machine.ledger.held), len(machine.snapshot().vmas)) == (1, 1)
    task.release(buf)
    task.mmap("24 KiB", folio="registered")
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)


def test_a_registered_buffer_in_zone_movable_moves_out_of_it_first(nothing_held):
    machine = machine_of("registered", system="phyr")
    machine.slots.cxl(8 << 20)
    task = machine.task()
    task.mmap("64 KiB", folio="cxl")
    (movable,) = (zone for zone in machine.buddy.zones if zone.name == "Movable")
    buf = task.mmap("64 KiB", folio="registered")
    assert all(end >> 12 <= movable.start for end in (a + n for a, n in machine.trace.of(GupPin)[-1].ranges))
    task.release(buf)
    nothing_held(machine)


@pytest.mark.parametrize(
    ("kind", "length", "why"),
    [
        ("hugetlb", "64 MiB", r"mmap: 64 MiB needs 32 huge pages of 2 MiB: the pool has 1\d \(-ENOMEM\)"),
        ("hugetlb1g", "1 GiB", r"mmap: 1 GiB needs 1 huge pages of 1 GiB: the pool has 0 \(-ENOMEM\)"),
        ("memfd", 0, r"mmap: length=0 is not a positive number of bytes \(-EINVAL\)"),
        ("gpu", -1, r"mmap: length=-1 is not a positive number of bytes \(-EINVAL\)"),
        ("gpu", "2 TiB", r"mmap: 2048 GiB does not fit into the address space \(-ENOMEM\)"),
        ("plutonium", 4096, r"mmap: folio='plutonium' is not one of 4KiB, 16KiB, .* \(-EINVAL\)"),
        ("kvec", "1 GiB", r"vmalloc: 1073741824 bytes are not to be had \(-ENOMEM\)"),
    ],
)
def test_what_cannot_be_had_is_told_in_a_sentence_and_changes_nothing(kind, length, why):
    machine = machine_of("4KiB")
    task = machine.task()
    if kind.startswith("hugetlb"):
        task.mmap(4096, folio="hugetlb")  # what is set aside is set aside once
    free, devices = machine.buddy.nr_free, machine.buddy.memblock.devices
    before = machine.snapshot()
    with pytest.raises((SyscallError, BadInput), match=why):
        task.mmap(length, folio=kind)
    assert (machine.buddy.nr_free, machine.buddy.memblock.devices) == (free, devices)
    assert machine.snapshot() == before == machine.trace.state_at(machine.clock.now)


def test_the_table_for_readers_says_the_same():
    text = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\S+)` \| (.+) \| (\w+) \| (\w+) \|$", text, re.MULTILINE)
    assert rows == [(row.name, row.what.rstrip("."), row.today.read, row.phyr.read) for row in table()]
