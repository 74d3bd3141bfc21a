"""Buffers are pinned and mapped once, IOs take device addresses, and whatever happens nothing is left."""

import pytest

from labkit.errors import SyscallError
from labkit.machine import Machine
from labkit.trace.events import DmaMap, DmaUnmap, GupPin, GupUnpin, Violation
from labkit.trace.registration import is_registration, registration

SMALL = {"system": "premapped", "ram": "64 MiB", "size": "64 KiB", "fragmentation": 1.0}
WAYS = {
    "direct": {"iommu": "off"},
    "strict": {"iommu": "strict"},
    "lazy": {"iommu": "lazy"},
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def ready(**knobs):
    """Return a machine, a task, its open device and a buffer of 64 KiB."""
    machine = Machine(**SMALL | knobs)
    task = machine.task()
    return machine, task, task.open("/dev/nvme0n1"), task.mmap("64 KiB")


def buffers(machine):
    return machine.currency.registry.buffers


def refusal(call, *args):
    with pytest.raises(SyscallError) as caught:
        call(*args)
    return str(caught.value)


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize("folio", ["4 KiB", "64 KiB", "memfd", "hugetlb", "p2pdma", "gpu", "hidden", "cxl"])
def test_every_byte_arrives(way, op, folio, nothing_held):
    machine = Machine(**SMALL | way, op=op, folio=folio, check=True)
    report = machine.run()
    assert (report["result"], report["verified"], report["error"]) == (65536, True, None)
    assert machine.trace.of(Violation) == ()
    nothing_held(machine)


@pytest.mark.parametrize("size", [512, 4096, 4608, "1 MiB", "16 MiB"])
def test_io_of_every_size_arrives(way, size, nothing_held):
    machine = Machine(**SMALL | way | {"size": size, "ram": "128 MiB"}, op="write")
    assert machine.run()["verified"]
    nothing_held(machine)


def test_rule_dmabuf_1_an_io_pins_and_maps_nothing(way):
    machine = Machine(**SMALL | way, count=3)
    assert machine.run()["verified"]
    records = [rec for rec in machine.trace.records if isinstance(rec, GupPin | GupUnpin | DmaMap | DmaUnmap)]
    once = [type(rec) for rec in records if is_registration(rec)]
    assert once == [GupPin, DmaMap, DmaUnmap, GupUnpin]
    of_ios = [rec for rec in records if not is_registration(rec)]
    assert sum(isinstance(rec, GupPin) for rec in of_ios) == 3
    assert {rec.how for rec in of_ios if isinstance(rec, DmaMap)} == {"premapped"}
    costs = ("atomics", "struct_pages", "ptes", "maps", "ioptes", "conversions", "descriptor_bytes", "syncs")
    assert not any(getattr(rec, name, 0) for rec in of_ios for name in costs)


def test_behind_an_iommu_scattered_frames_are_one_range_and_one_segment():
    machine = Machine(**SMALL, iommu="strict")
    machine.run()
    mapping = next(rec for rec in machine.trace.of(DmaMap) if rec.rq < 0)
    assert (mapping.how, len(mapping.dma), len(mapping.phys), mapping.ioptes) == ("iova", 1, 16, 16)
    assert machine.trace.of(DmaMap)[1].dma == mapping.dma


def test_what_is_registered_stays_pinned_and_mapped_between_ios(way):
    machine, task, fd, buf = ready(**way)
    task.pread(fd, buf, 4096)
    machine.clock.run()
    state = machine.snapshot()
    (pin,), (mapping,) = state.pins, state.dma
    assert sum(n for _, n in pin.ranges) == sum(n for _, n in mapping.dma) == 65536
    assert (pin.io, pin.policy, mapping.live) == (0, "page", True)
    assert machine.trace.state_at(machine.clock.now) == state


def test_a_buffer_is_let_go_of_once(way, nothing_held):
    machine, task, fd, buf = ready(**way)
    task.pread(fd, buf, 4096)
    task.release(buf + 8192)
    told = len(machine.trace.records)
    task.release(buf)
    assert buffers(machine) == {}
    assert len(machine.trace.records) == told
    nothing_held(machine)


def test_a_buffer_that_is_registered_again_is_mapped_once(way, nothing_held):
    machine, task, _, buf = ready(**way)
    for _ in range(2):
        machine.currency.registry.register(task.mm, buf, 65536)
    assert [len(machine.maps.held), len(task.mm.ledger.held)] == [1, 1]
    task.munmap(buf)
    machine.currency.registry.unregister(task.mm, buf)
    nothing_held(machine)


def test_a_task_that_ends_lets_go_of_it_mapped_still_or_not(nothing_held):
    machine, task, fd, buf = ready()
    other = task.mmap("64 KiB")
    task.pread(fd, buf, 4096)
    task.pread(fd, other, 4096)
    task.munmap(buf)
    assert len(buffers(machine)) == 2
    task.exit()
    nothing_held(machine)


def test_a_buffer_that_is_unmapped_stays_where_io_finds_it(nothing_held):
    machine, task, fd, buf = ready()
    task.pread(fd, buf, 4096)
    task.munmap(buf)
    assert task.pread(fd, buf, 4096) == 4096
    task.release(buf)
    nothing_held(machine)


def test_io_that_ends_beyond_what_is_registered_is_refused(nothing_held):
    machine, task, fd, buf = ready()
    told = refusal(task.pread, fd, buf + 61440, 8192)
    assert told.endswith(f"ends beyond the 65536 bytes that are registered at {buf:#x} (DMABUF-1) (-EFAULT)")
    assert refusal(task.pread, fd, 0x1000, 4096) == "premapped: addr=0x1000 is not mapped (MM-4) (-EFAULT)"
    task.release(buf)
    nothing_held(machine)


def test_a_buffer_that_may_not_be_written_is_not_registered(nothing_held):
    machine, task, fd, _ = ready()
    buf = task.mmap("64 KiB", prot="r--")
    assert refusal(task.pwrite, fd, buf, 4096).endswith("(-EFAULT)")
    nothing_held(machine)


@pytest.mark.parametrize(("knobs", "what"), [
    ({"stack": "crypt"}, "stack=crypt"), ({"stack": "stripe"}, "stack=stripe"), ({"fs": "ext4"}, "fs=ext4"),
    ({"device": "virtio"}, "device=virtio"), ({"device": "pmem"}, "device=pmem"), ({"device": "null"}, "device=null"),
    ({"device": "ahci"}, "device=ahci"),
])  # fmt: skip
def test_what_takes_no_device_addresses_says_so(knobs, what, nothing_held):
    machine = Machine(**SMALL | knobs)
    report = machine.run()
    rule = "takes no device addresses: the raw device of NVMe alone does (DMABUF-1) (-EOPNOTSUPP)"
    assert report["error"] == f"premapped: {what} {rule}"
    nothing_held(machine)


def test_optane_takes_them_as_any_nvme(nothing_held):
    machine = Machine(**SMALL, device="optane")
    assert machine.run()["verified"]
    nothing_held(machine)


def test_memory_is_never_bounced_for_good(nothing_held):
    machine = Machine(**SMALL, dma="swiotlb")
    rule = "would be bounced, and nothing copies for an IO that was mapped before (DMABUF-1, SWI-3) (-EOPNOTSUPP)"
    assert machine.run()["error"] == f"premapped: dma=swiotlb {rule}"
    nothing_held(machine)


def test_memory_that_the_device_does_not_reach_is_not_registered(nothing_held):
    machine = Machine(**SMALL | {"ram": "8 GiB"}, device_mask=32, iommu="off")
    assert machine.run()["error"].endswith("mapped before (DMABUF-1, SWI-3) (-EOPNOTSUPP)")
    assert machine.dma.swiotlb.in_use == 0
    nothing_held(machine)


def test_a_bug_that_unpins_a_registration_is_seen_by_what_the_device_uses_then():
    machine = Machine(**SMALL, hazard="early-unpin", at="GupPin", check=True)
    machine.run()
    assert "dma-to-unpinned" in {rec.name for rec in machine.trace.of(Violation)}
    machine.clock.run()
    assert (machine.maps.held, machine.ledger.held) == ({}, {})


def test_the_kernels_own_buffer_is_not_registered(nothing_held):
    machine = Machine(**SMALL, folio="kvec")
    assert machine.run()["result"] == "-EOPNOTSUPP"
    nothing_held(machine)


@pytest.mark.parametrize("knobs", [
    {"api": "io_uring-fixed"}, {"folio": "registered"}, {"api": "io_uring"}, {"api": "preadv", "pieces": 5},
    {"api": "aio"},
])  # fmt: skip
def test_every_way_to_ask_finds_what_is_registered(knobs, nothing_held):
    machine = Machine(**SMALL | knobs)
    assert machine.run()["verified"]
    assert {rec.how for rec in machine.trace.of(DmaMap) if rec.rq > 0} == {"premapped"}
    assert sum(rec.rq < 0 for rec in machine.trace.of(DmaMap)) == 1
    machine.currency.registry.unregister_all(machine.mms[0])
    nothing_held(machine)


def test_a_ring_registers_for_the_device_and_shares_with_every_io(nothing_held):
    machine, task, fd, buf = ready(iommu="strict", check=True)
    ring = task.io_uring()
    ring.register_buffers([(buf, 65536)])
    for at in range(0, 65536, 4096):
        ring.write(fd, buf, 4096, at, buf_index=0)
    assert [done.res for done in ring.submit()] == [4096] * 16
    assert machine.trace.of(Violation) == ()
    assert registration(machine.trace.records)["mapped_bytes"] == 65536
    ring.unregister_buffers()
    nothing_held(machine)


def test_what_is_unregistered_while_an_io_uses_it_goes_when_that_ends(way, nothing_held):
    machine, task, fd, buf = ready(**way)
    task.pread(fd, buf, 512)
    ring = task.io_uring()
    ring.read(fd, buf, 65536)
    ring.submit(wait=0)
    task.release(buf)
    assert buffers(machine) == {}
    assert any(number < 0 for number in machine.maps.held)
    assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
    ring.submit(wait=1)
    machine.clock.run()
    assert machine.maps.held == {}
    nothing_held(machine)


@pytest.mark.parametrize("name", ["map_phys", "iova_link"])
def test_a_mapping_that_fails_leaves_nothing(name, monkeypatch, nothing_held):
    machine, task, fd, buf = ready(iommu="off" if name == "map_phys" else "strict")
    calls = []

    def fail(*args, **how):
        calls.append(args)
        if len(calls) > 3:
            raise SyscallError("dma", "an address", "is not to be had", 12)
        return original(*args, **how)

    original = getattr(machine.maps.ops, name)
    with monkeypatch.context() as patch:
        patch.setattr(machine.maps.ops, name, fail)
        assert refusal(task.pread, fd, buf, 4096) == "dma: an address is not to be had (-ENOMEM)"
    assert buffers(machine) == {}
    nothing_held(machine)
    assert task.pread(fd, buf, 4096) == 4096
    task.release(buf)
    nothing_held(machine)


@pytest.mark.parametrize(("route", "came"), [("switch", 65536), ("bridge", 65536), ("none", "-EINVAL")])
def test_memory_of_a_gpu_is_mapped_by_its_route(route, came, nothing_held):
    machine = Machine(**SMALL, folio="gpu", route=route)
    report = machine.run()
    assert (report["result"], report["verified"]) == (came, came == 65536)
    once = [rec for rec in machine.trace.records if is_registration(rec)]
    assert not any(isinstance(rec, GupPin) for rec in once)
    assert [rec.how for rec in once if isinstance(rec, DmaMap)] == {"switch": ["bus"], "bridge": ["phys"], "none": []}[
        route
    ]
    nothing_held(machine)


@pytest.mark.parametrize("route", ["switch", "bridge"])
def test_one_io_may_go_to_ram_and_to_a_gpu(route, way, nothing_held):
    machine, task, fd, ram = ready(route=route, check=True, **way)
    gpu = task.mmap("64 KiB", "gpu")
    data = bytes(range(256)) * 64
    machine.volume.poke("/dev/nvme0n1", 0, data)
    assert task.preadv(fd, [(ram, 8192), (gpu + 4096, 8192)], 0) == 16384
    assert task.load(ram, 8192) + task.load(gpu + 4096, 8192) == data
    assert machine.trace.of(Violation) == ()
    task.exit()
    nothing_held(machine)


@pytest.mark.parametrize("route", ["switch", "bridge"])
def test_rule_dmabuf_1_a_gpu_that_goes_takes_its_mapping_with_it(route, nothing_held):
    machine, task, fd, _ = ready(route=route)
    buf = task.mmap("64 KiB", "gpu")
    assert task.pread(fd, buf, 4096) == 4096
    assert machine.slots.unplug("gpu0") == ()
    assert buffers(machine) == machine.maps.held == {}
    assert refusal(task.pread, fd, buf, 4096).endswith("whose owner has revoked it (D-13) (-ENODEV)")
    nothing_held(machine)


def test_an_owner_waits_for_io_on_its_way_and_no_other_begins(nothing_held):
    machine, task, fd, _ = ready()
    buf = task.mmap("64 KiB", "gpu")
    task.pread(fd, buf, 512)
    ring = task.io_uring()
    ring.read(fd, buf, 65536)
    ring.submit(wait=0)
    held = machine.slots.unplug("gpu0")
    assert [machine.ledger.held[token].policy for token in held] == ["lease"]
    assert refusal(task.pread, fd, buf, 512).endswith("whose owner has revoked it (D-13) (-ENODEV)")
    (done,) = ring.submit(wait=1)
    assert done.res == 65536
    assert machine.slots.unplug("gpu0") == ()
    nothing_held(machine)


def test_an_unplug_in_the_middle_of_an_io_waits_for_it(nothing_held):
    machine = Machine(**SMALL, hazard="unplug", at="DeviceStart", check=True)
    report = machine.run()
    assert (report["result"], report["verified"], report["hazard"]["outcome"]) == (65536, True, "waited")
    assert machine.trace.of(Violation) == ()
    nothing_held(machine)
