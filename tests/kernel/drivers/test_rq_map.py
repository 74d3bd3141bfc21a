from types import SimpleNamespace

import pytest

from labkit.errors import InvariantError, SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.iommu import Iommu
from labkit.hardware.pcie import Pcie
from labkit.hardware.ram import RAM
from labkit.kernel.dma.direct import DirectMap
from labkit.kernel.dma.iommu import IommuMap
from labkit.kernel.dma.ops import DmaDevice
from labkit.kernel.dma.p2pdma import PciP2pDma
from labkit.kernel.dma.swiotlb import SwioTlb
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.rq_map import RequestMaps, gap_mask, segments
from labkit.kernel.version import rules_of
from labkit.machine.build import DATA
from labkit.scatter.memory_class import RAM as ORDINARY
from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.range_array import RangeArray

CPU = Cpu.load(DATA / "cpu.toml")
NVME = DmaDevice(max_segment_size=(1 << 32) - 1, min_align_mask=4095)
GPU = 1 << 33


def world(iommu=None, route="bridge", dev=NVME, kernel="7.3", pool=None):
    clock, told, tree = Clock(), [], Pcie.of(route)
    tree.plug("gpu0", GPU, 1 << 20, 4096)
    hardware = Iommu(RAM(memoryview(bytearray(1 << 20))))
    ops = (
        IommuMap(hardware, dev, clock.later, lambda _n: None, strict=iommu == "strict")
        if iommu
        else DirectMap(dev, pool)
    )
    maps = RequestMaps(clock, CPU, ops, told.append, PciP2pDma(tree), rules=rules_of(kernel)[0])
    return SimpleNamespace(maps=maps, told=told, ops=ops, iommu=hardware, clock=clock)


def request(*vecs, cls=ORDINARY, write=False, conversions=0):
    rq = Request(5, 1, 0, 0, (vecs, sum(nbytes for _, nbytes in vecs), len(vecs)), cls, write=write)
    rq.conversions = conversions
    return rq


def told_of(made):
    """Return (dma, phys, maps, descriptor bytes, how, ioptes) of the last mapping that was told."""
    return tuple(made.told[-1][at] for at in (4, 5, 6, 9, 10, 11))


def test_blkdma_1_what_touches_is_joined_across_vectors():
    made = world()
    made.maps.map(request((0x7000, 4096), (0x8000, 4096), (0x21000, 512)))
    both = ((0x7000, 8192), (0x21000, 512))
    assert told_of(made) == (both, both, 2, 0, "phys", 0)


def test_blkdma_3_behind_an_iommu_a_request_is_one_range_of_device_addresses():
    made = world("lazy")
    made.maps.map(request((0x7E00, 512), (0x21000, 4096), (0x9000, 100)))
    assert told_of(made)[:1] == (((0xFFFFCE00, 4708),),)
    assert told_of(made)[2:] == (3, 16, "iova", 3)
    assert made.maps.unmap(request()) == CPU.iotlb_sync
    assert made.told[-1] == ("DmaUnmap", 0, 1, 5, 1, False, 0)
    assert (made.maps.held, made.iommu.mapped) == ({}, 0)


def test_blkdma_3_a_joint_inside_a_page_makes_ranges_of_their_own():
    made = world("lazy")
    made.maps.map(request((0x7000, 512), (0x21000, 4096)))
    assert told_of(made) == (
        ((0xFFFFF000, 512), (0xFFFFE000, 4096)),
        ((0x7000, 512), (0x21000, 4096)),
        2,
        32,
        "phys",
        2,
    )
    assert made.maps.unmap(request()) == CPU.lazy_unmap
    assert made.told[-1] == ("DmaUnmap", 0, 1, 5, 0, True, 0)
    assert [(each.dma, each.phys) for each in made.maps.stale] == [made.told[0][4:6]]
    made.clock.run()
    assert made.maps.stale == []
    made.maps.map(request((0x7000, 4096)))
    made.maps.unmap(request())
    assert len(made.maps.stale) == 1
    made.clock.run()
    assert made.ops.iovas.used == 0


@pytest.mark.parametrize("sg", [False, True])
def test_iova_6_large_leaves_lead_to_a_large_range_though_the_device_takes_64_kib_at_a_time(sg):
    made = world("strict", dev=DmaDevice(mask=(1 << 40) - 1, max_segment_size=65536))
    made.maps.map(request((6 << 20, 4 << 20)), sg=sg)
    assert told_of(made)[5] == 2
    assert made.maps.unmap(request()) == CPU.iotlb_sync
    assert made.iommu.mapped == 0


@pytest.mark.parametrize(("kernel", "how"), [("6.18", "iova"), ("7.3", "phys")])
def test_blkdma_3_joints_inside_a_page_that_touch_count_since_requests_know_of_gaps(kernel, how):
    made = world("strict", kernel=kernel)
    made.maps.map(request((0x7000, 512), (0x7200, 512)))
    assert told_of(made)[4] == how


@pytest.mark.parametrize(("kernel", "entries"), [("6.1", (4096, 8192)), ("6.12", (4096, 8192)), ("6.18", (12288,))])
def test_sg_1_an_older_scatterlist_joins_only_where_two_bios_meet(kernel, entries):
    made = world(kernel=kernel)
    rq = request((0x7000, 4096), (0x8000, 4096))
    rq.add(((0x9000, 4096),), 4096, 1, front=False)
    made.maps.map(rq, sg=True)
    assert tuple(nbytes for _, nbytes in told_of(made)[0]) == entries


def test_sg_1_bios_that_meet_are_no_entry_beyond_the_longest_segment():
    made = world(dev=DmaDevice(max_segment_size=8192), kernel="6.12")
    rq = request((0x7000, 4096), (0x8000, 8192))
    rq.add(((0xA000, 4096),), 4096, 1, front=False)
    made.maps.map(rq, sg=True)
    assert told_of(made)[0] == ((0x7000, 4096), (0x8000, 8192), (0xA000, 4096))


def test_sg_1_a_scatterlist_reads_each_vector_twice_and_is_kept_for_the_unmap():
    made = world("strict", dev=DmaDevice())
    sg = tuple((0x10000 * at, 4096) for at in range(1, 6))
    made.maps.map(request(*sg, conversions=5), sg=True)
    assert told_of(made) == (((0xFFFF8000, 20480),), sg, 1, 160, "sg", 5)
    assert made.told[-1][7:9] == (10, 10)
    assert made.maps.unmap(request()) == CPU.iotlb_sync
    assert made.iommu.mapped == 0


def test_blkdma_5_a_direct_mapping_costs_nothing_to_undo():
    made = world()
    assert made.maps.map(request((0x7000, 4096))) == CPU.dma_map
    assert made.maps.unmap(request()) == 0
    assert made.maps.held == {}


def test_a_request_is_mapped_once_and_one_that_is_not_has_nothing_to_undo():
    made = world("strict")
    made.maps.map(request((0x7000, 4096)))
    with pytest.raises(InvariantError) as caught:
        made.maps.map(request((0x7000, 4096)))
    assert str(caught.value) == "dma: request 5 is mapped already (-EINVAL)"
    made.maps.unmap(request())
    count = len(made.told)
    assert (made.maps.unmap(request()), len(made.told), made.ops.iovas.used) == (0, count, 0)


def test_memory_of_a_peer_below_the_switch_goes_by_its_bus_address_past_every_iommu():
    made = world("strict", "switch")
    made.maps.map(request((GPU, 8192), cls=MemoryClass("mmio", "gpu0")))
    assert told_of(made) == (((GPU + 4096, 8192),), ((GPU, 8192),), 0, 0, "bus", 0)
    assert made.maps.unmap(request()) == 0
    assert made.ops.iovas.used == 0


def test_memory_of_a_peer_behind_the_host_bridge_is_mapped_like_ram():
    made = world("strict", "bridge")
    made.maps.map(request((GPU, 8192), cls=MemoryClass("mmio", "gpu0")))
    assert told_of(made) == (((0xFFFFE000, 8192),), ((GPU, 8192),), 1, 0, "phys", 2)
    made.maps.unmap(request())


@pytest.mark.parametrize(("sg", "name"), [(False, "-EINVAL"), (True, "-EREMOTEIO")])
def test_memory_of_a_peer_that_cannot_be_reached_is_refused_and_nothing_is_held(sg, name):
    made = world("strict", "none")
    with pytest.raises(SyscallError) as caught:
        made.maps.map(request((GPU, 8192), cls=MemoryClass("mmio", "gpu0")), sg=sg)
    assert str(caught.value) == f"p2pdma: memory of gpu0 cannot be reached from here (P2P-2) ({name})"
    assert (made.maps.held, made.told, made.ops.iovas.used) == ({}, [], 0)


@pytest.mark.parametrize(
    "owner", [MemoryClass("mmio", "gpu0"), MemoryClass("ram", "hidden0"), MemoryClass("foreign", "xen")]
)
@pytest.mark.parametrize("route", ["switch", "bridge"])
def test_swi_4_memory_without_a_kernel_mapping_is_an_error_beyond_the_mask_and_no_bounce(owner, route):
    ram = RAM(memoryview(bytearray(1 << 20)))
    pool = SwioTlb(ram, range(0, 1 << 20, 1 << 18), [].append, lambda: 0)
    made = world(route=route, dev=DmaDevice(mask=(1 << 32) - 1), pool=pool)
    with pytest.raises(
        SyscallError, match=r"beyond the 32 bits of the device's mask, and .* never bounced \(SWI-4, D-9\)"
    ):
        made.maps.map(request((GPU, 4096), cls=owner))
    assert (made.maps.held, made.told, pool.bounced, pool.in_use) == ({}, [], 0, 0)


@pytest.mark.parametrize("vecs", [((0x7000, 4096), (0x21000, 4096)), ((0x7000, 512), (0x21000, 4096)), ((0x7000, 8),)])
@pytest.mark.parametrize("sg", [False, True])
def test_where_addresses_end_nothing_is_held(vecs, sg):
    made = world("strict")
    made.ops.iovas.exhaust()
    with pytest.raises(SyscallError, match="ENOMEM"):
        made.maps.map(request(*vecs), sg=sg)
    assert (made.maps.held, made.iommu.mapped, made.ops.iovas.used) == ({}, 0, 0)


@pytest.mark.parametrize("sg", [False, True])
def test_dma_2_a_pool_that_is_full_midway_takes_every_bounce_back_and_copies_nothing_there(sg):
    ram = RAM(memoryview(bytearray(4 << 20)))
    pool = SwioTlb(ram, range(0, 1 << 20, 1 << 18), [].append, lambda: 0)
    made = world(pool=pool)
    made.ops._force = True
    five = [((1 << 20) + at * (1 << 18), 252 << 10) for at in range(5)]  # of which four fit
    with pytest.raises(SyscallError, match="ENOMEM"):
        made.maps.map(request(*five), sg=sg)
    assert (made.maps.held, pool.in_use, pool.bounced) == ({}, 0, 4 * (252 << 10))


def test_memory_that_was_mapped_long_before_is_taken_as_it_is():
    made = world("strict")
    addr = made.ops.alloc_coherent(0x7000, 8192)
    made.maps.map(request((addr + 512, 4096), cls=MemoryClass("dma", "nvme")))
    assert told_of(made) == (((addr + 512, 4096),), ((0x7200, 4096),), 0, 0, "premapped", 0)
    assert made.maps.unmap(request()) == 0


@pytest.mark.parametrize(("iommu", "kept"), [(None, 32), ("strict", 16)])
def test_dmabuf_1_a_registration_keeps_the_addresses_that_its_ios_go_by(iommu, kept):
    made = world(iommu)
    rq = request((0x7000, 4096), (0x21000, 4096))
    rq.rq = -1
    made.maps.map(rq)
    assert told_of(made)[3] == kept


def test_segments_are_cut_at_the_longest_and_at_the_boundary():
    assert segments(((0x1000, 0x3000), (0x4000, 0x1000)), 0x3000, 0xFFFF) == ((0x1000, 0x3000), (0x4000, 0x1000))
    assert segments(((0xE000, 0x4000),), 0x10000, 0xFFFF) == ((0xE000, 0x2000), (0x10000, 0x2000))


def test_columns_are_cut_as_tuples_are():
    vecs = tuple((pfn << 12, 4096) for pfn in range(0, 80, 2))
    made = world()
    made.maps.map(request(*vecs))
    tuples = made.told[-1]
    made.maps.unmap(request())
    columns = Request(5, 1, 0, 0, (RangeArray.join([vecs]), 40 * 4096, 40), write=False)
    made.maps.map(columns)
    assert made.told[-1][4:6] == tuples[4:6]


def test_the_gap_mask_has_the_bits_in_which_joints_are_not_clean():
    assert gap_mask(((0x7000, 4096),)) == 0
    assert gap_mask(((0x7200, 3584), (0x9000, 512))) == 0x9000 | 0x8000
    assert gap_mask(((0x7000, 512), (0x9000, 512))) & 4095 == 512
