"""Struct pages of a PCI device: taken where the queue asks for them, each class in a bio of its own, by a route."""

import pytest

from labkit.errors import SyscallError
from labkit.machine import Machine
from labkit.trace.events import BlockBioQueue, BlockRqIssue, DmaMap, GupPin

SMALL = {"ram": "128 MiB", "fragmentation": 0, "seed": 3}
SYSTEMS = ["page", "unified", "phyr"]


def world(**knobs):
    machine = Machine(**SMALL, **knobs)
    task = machine.task()
    return machine, task, task.mmap("64 KiB", folio="p2pdma"), task.open("/dev/nvme0n1")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("route", "how"), [("switch", "bus"), ("bridge", "phys")])
def test_a_read_arrives_in_a_peer_by_every_route_that_there_is(system, route, how, nothing_held):
    machine, task, buf, fd = world(system=system, route=route, iommu="off")
    machine.device.poke(0, bytes(range(256)) * 64)
    assert task.pread(fd, buf, 16384) == 16384
    assert task.load(buf, 16384) == bytes(range(256)) * 64
    (mapped,) = machine.trace.of(DmaMap)
    assert mapped.how == how
    nothing_held(machine)


@pytest.mark.parametrize("system", SYSTEMS)
def test_without_a_route_it_is_einval_and_nothing_was_issued(system, nothing_held):
    machine, task, buf, fd = world(system=system, route="none")
    with pytest.raises(
        SyscallError, match=r"p2pdma: memory of p2pdma0 cannot be reached from here \(P2P-2\) \(-EINVAL\)"
    ):
        task.pread(fd, buf, 16384)
    assert machine.trace.of(BlockRqIssue) == ()
    nothing_held(machine)


@pytest.mark.parametrize("system", ["page", "unified"])
def test_a_queue_that_does_not_ask_for_such_pages_refuses_them(system, nothing_held):
    machine, task, buf, fd = world(system=system, limits={"pci_p2pdma": 0})
    with pytest.raises(SyscallError, match=r"\(MM-12\) \(-EREMOTEIO\)"):
        task.pread(fd, buf, 4096)
    nothing_held(machine)


def test_one_bio_never_mixes_ram_and_a_peer(nothing_held):
    machine, task, peer, fd = world(system="page", kernel="6.18", fs="ext4")
    ram = task.mmap("64 KiB")
    path = "/mnt/two"
    machine.volume.mkfs("ext4")
    machine.volume.create("two", 32768)
    machine.volume.poke(path, 0, bytes(range(128)) * 256)
    fd = task.open(path, "O_RDONLY|O_DIRECT")
    assert task.preadv(fd, [(ram, 16384), (peer, 16384)]) == 32768
    assert task.load(ram, 16384) + task.load(peer, 16384) == bytes(range(128)) * 256
    bios = machine.trace.of(BlockBioQueue)
    assert [bio.nr_sector for bio in bios] == [32, 32]
    assert [len(pin.ranges) for pin in machine.trace.of(GupPin)] == [1, 1]
    nothing_held(machine)


def test_a_page_of_a_peer_is_told_by_its_struct_page_and_a_phyr_by_its_class():
    pages, phyrs = (world(system=system)[0:] for system in ("page", "phyr"))
    for machine, task, buf, fd in (pages, phyrs):
        task.pread(fd, buf, 4096)
        assert machine.error is None
    assert [machine.trace.of(DmaMap)[0].struct_pages for machine in (pages[0], phyrs[0])] == [1, 0]


@pytest.mark.parametrize(("kernel", "allowed"), [("6.1", False), ("6.12", True), ("6.18", True), ("7.3", True)])
def test_only_kernels_after_6_1_ask_for_such_pages(kernel, allowed, nothing_held):
    machine, task, buf, fd = world(system="page", kernel=kernel)
    if allowed:
        assert task.pread(fd, buf, 4096) == 4096
    else:
        with pytest.raises(SyscallError, match=r"\(MM-12\) \(-EREMOTEIO\)"):
            task.pread(fd, buf, 4096)
    nothing_held(machine)
