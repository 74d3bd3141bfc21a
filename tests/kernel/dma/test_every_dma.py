"""One suite for every way to map: what a driver may rely on, whatever is behind it."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InvariantError, LabkitError, SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.device import BusFault
from labkit.hardware.iommu import Iommu
from labkit.hardware.ram import RAM
from labkit.hardware.xen import MachineBus, P2m
from labkit.host.memory.arena import arena
from labkit.kernel.dma.direct import DirectMap
from labkit.kernel.dma.iommu import FLUSH_NS, FLUSH_QUEUE, IommuMap
from labkit.kernel.dma.ops import Attrs, DmaDevice, DmaDir
from labkit.kernel.dma.swiotlb import SEGMENT_BYTES, SwioTlb
from labkit.kernel.dma.xen import XenMap

MIB = 1 << 20
TO, FROM, BOTH = DmaDir
NAMES = ("direct", "mask", "force", "strict", "lazy 6.18", "lazy 7.3", "xen", "xen mask")
IOMMUS = ("strict", "lazy 6.18", "lazy 7.3")
POOLS = ("mask", "force")
POOL = 16 * MIB
"""Where the pool is: 1 MiB, in reach of 25 bits."""
NARROW = DmaDevice(mask=(1 << 25) - 1, min_align_mask=4095)
NVME = DmaDevice(min_align_mask=4095, max_segment_size=(1 << 32) - 1)


class World(SimpleNamespace):
    """One backend with its memory: each frame holds its own number."""

    def fill(self, phys, nbytes, byte):
        self.ram.scatter(((phys, nbytes),), bytes([byte]) * nbytes)

    def bytes_at(self, *ranges):
        return self.ram.gather(ranges)

    def device_reads(self, *dma):
        return b"".join(bytes(view) for addr, nbytes in dma for view in self.bus.views(addr, nbytes))

    def device_writes(self, addr, data):
        at = 0
        for view in self.bus.views(addr, len(data), True):
            view[:] = data[at : at + len(view)]
            at += len(view)

    def left(self):
        """Return what is held: pages of device addresses, their entries, slots."""
        self.clock.run()
        held = (self.iovas.used, self.bus.mapped) if self.iovas else (0, 0)
        return (*held, self.pool.in_use if self.pool else 0)


def build(name, ram=None):
    """Build a way to map 64 MiB, of which a device with a mask reaches the lower half."""
    clock, flushed, told = Clock(), [], []
    ram = ram or RAM(arena(64 * MIB))
    for pfn in range(64):
        for base in (0, LOW, HIGH):
            ram.view(base + (pfn << 12), 4096)[:] = bytes([pfn]) * 4096
    world = World(name=name, ram=ram, clock=clock, flushed=flushed, told=told, pool=None, iovas=None, high=LOW)
    world.high = HIGH if name in {"mask", "xen mask"} else LOW
    blocks = range(POOL, POOL + MIB, SEGMENT_BYTES)
    if name in {"mask", "force", "xen", "xen mask"}:
        world.pool = SwioTlb(ram, blocks, told.append, lambda: clock.now)
    if name in {"direct", "mask", "force"}:
        dev = NARROW if name == "mask" else NVME
        world.ops, world.bus = DirectMap(dev, world.pool, force=name == "force"), ram
    elif name in {"xen", "xen mask"}:
        dev = NARROW if name == "xen mask" else NVME
        p2m = P2m(ranges=((0, 64 * MIB),), seed=7)
        for block in blocks:
            p2m.exchange(block, SEGMENT_BYTES)
        world.ops, world.bus = XenMap(DirectMap(dev), p2m, world.pool), MachineBus(ram, p2m)
    else:
        world.bus = Iommu(ram)
        world.ops = IommuMap(
            world.bus, NVME, clock.later, flushed.append, strict=name == "strict", destroy_syncs=name != "lazy 6.18"
        )
        world.iovas = world.ops.iovas
    return world


LOW, HIGH = 4 * MIB, 40 * MIB
"""Memory that every device reaches, and memory that 25 bits do not."""


@pytest.fixture(params=NAMES)
def world(request):
    return build(request.param)


@pytest.fixture(params=IOMMUS)
def behind(request):
    return build(request.param)


@pytest.fixture(params=POOLS)
def bounced(request):
    return build(request.param)


def test_the_device_reads_the_bytes_that_were_mapped_to_it(world):
    phys = world.high + 0x3E00
    addr = world.ops.map_phys(phys, 8192, TO)
    assert world.device_reads((addr, 8192)) == b"\3" * 512 + b"\4" * 4096 + b"\5" * 3584
    world.ops.unmap_phys(addr, 8192, TO)
    assert world.left() == (0, 0, 0)


def test_what_the_device_writes_is_in_memory_after_the_unmap(world):
    addr = world.ops.map_phys(world.high, 4096, FROM)
    world.device_writes(addr, b"\xaa" * 4096)
    world.ops.unmap_phys(addr, 4096, FROM)
    assert world.bytes_at((world.high, 4096), (world.high + 4096, 1)) == b"\xaa" * 4096 + b"\1"
    assert world.left() == (0, 0, 0)


def test_bytes_that_the_device_leaves_alone_stay_as_they_were(world):
    addr = world.ops.map_phys(world.high + 0x1000, 4096, FROM)
    world.device_writes(addr + 512, b"\xbb" * 512)
    world.ops.unmap_phys(addr, 4096, FROM)
    assert world.bytes_at((world.high + 0x1000, 4096)) == b"\1" * 512 + b"\xbb" * 512 + b"\1" * 3072


def test_an_offset_in_a_page_is_the_same_for_the_device(world):
    for offset in (0, 4, 512, 2048, 4092):
        addr = world.ops.map_phys(world.high + offset, 4, TO)
        assert addr % 4096 == offset
        world.ops.unmap_phys(addr, 4, TO)
    assert world.left() == (0, 0, 0)


def test_a_scatterlist_is_read_in_order_and_leaves_nothing(world):
    sg = tuple((world.high + (pfn << 12), 4096) for pfn in (9, 4, 30, 31, 2))
    dma = world.ops.map_sg(sg, TO)
    assert sum(nbytes for _, nbytes in dma) == 5 * 4096
    assert world.device_reads(*dma) == b"".join(bytes([pfn]) * 4096 for pfn in (9, 4, 30, 31, 2))
    world.ops.unmap_sg(sg, dma, TO)
    assert world.left() == (0, 0, 0)


def test_the_trace_can_ask_what_is_behind_a_mapping(world):
    sg = ((world.high + 0x3E00, 512), (world.high + 0x7000, 4096))
    dma = world.ops.map_sg(sg, TO)
    assert tuple(world.ops.phys_of(dma)) == sg
    world.ops.unmap_sg(sg, dma, TO)


def test_memory_for_good_is_reached_by_the_address_that_it_got(world):
    addr = world.ops.alloc_coherent(LOW + 0x10000, 8192)
    world.device_writes(addr + 4092, b"\xcc" * 8)
    assert world.bytes_at((LOW + 0x10000 + 4090, 12)) == b"\x10" * 2 + b"\xcc" * 8 + b"\x11" * 2


def test_two_mappings_of_one_memory_are_two(world):
    first = world.ops.map_phys(world.high, 4096, TO)
    second = world.ops.map_phys(world.high, 4096, TO)
    world.ops.unmap_phys(first, 4096, TO)
    assert world.device_reads((second, 4096)) == bytes(4096)
    world.ops.unmap_phys(second, 4096, TO)
    assert world.left() == (0, 0, 0)


def test_only_an_iommu_has_a_range_for_all_and_bridges_joints(world):
    state = world.ops.iova_try_alloc(world.high, 8192)
    assert (state is not None, world.ops.merge_boundary) == ((True, 4095) if world.iovas else (False, 0))
    if state:
        world.ops.iova_free(state)
    assert world.left() == (0, 0, 0)


def test_sizes_are_those_of_each_way(world):
    got = (world.ops.need_unmap, world.ops.max_mapping_size, world.ops.opt_mapping_size)
    assert got == {
        "direct": (False, (1 << 64) - 1, (1 << 64) - 1),
        "mask": (True, 252 << 10, 252 << 10),
        "force": (True, 252 << 10, 252 << 10),
        "xen": (True, 252 << 10, 252 << 10),
        "xen mask": (True, 252 << 10, 252 << 10),
    }.get(world.name, (True, (1 << 64) - 1, 128 << 10))


@pytest.mark.parametrize("name", [*POOLS, "xen mask", *IOMMUS])  # direct has nothing to undo, and no book (BLKDMA-5)
def test_what_is_unmapped_twice_or_with_another_length_is_refused(name):
    world = build(name)
    addr = world.ops.map_phys(world.high, 4096, TO)
    with pytest.raises(InvariantError, match="EINVAL"):
        world.ops.unmap_phys(addr, 512, TO)
    world.ops.unmap_phys(addr, 4096, TO)
    with pytest.raises(InvariantError, match="EINVAL"):
        world.ops.unmap_phys(addr, 4096, TO)
    assert world.left() == (0, 0, 0)


@pytest.mark.parametrize("name", [*POOLS, "xen mask", *IOMMUS])
def test_a_scatterlist_that_fails_in_the_middle_leaves_nothing(name):
    world = build(name)
    if world.iovas:
        world.iovas.exhaust()
        sg = ((LOW, 4096),)
    else:  # five take 200 KiB each of a pool of 1 MiB, and the sixth finds no room
        sg = tuple((world.high, 200 << 10) for _ in range(6))
    with pytest.raises(SyscallError, match="ENOMEM"):
        world.ops.map_sg(sg, TO)
    assert world.left() == (0, 0, 0)


@pytest.mark.parametrize("name", NAMES)
@given(
    parts=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 4095), st.integers(1, 12000)), min_size=1, max_size=12),
    way=st.sampled_from([TO, FROM]),
)
def test_every_byte_is_in_its_place_whatever_the_list(name, parts, way):
    world = build(name, RAMS[name])
    sg = tuple((world.high + (pfn << 12) + skew, nbytes) for pfn, skew, nbytes in parts)
    dma = world.ops.map_sg(sg, way)
    assert sum(nbytes for _, nbytes in dma) == sum(nbytes for _, nbytes in sg)
    if way is TO:
        assert world.device_reads(*dma) == world.bytes_at(*sg)
    world.ops.unmap_sg(sg, dma, way)
    assert world.left() == (0, 0, 0)


RAMS = {name: RAM(arena(64 * MIB)) for name in NAMES}


def test_direct_maps_a_range_to_itself_and_never_joins_a_list():
    world = build("direct")
    sg = ((LOW, 4096), (LOW + 4096, 4096))
    assert world.ops.map_sg(sg, TO) == sg


def test_a_bounce_counts_the_bytes_of_both_ways(bounced):
    addr = bounced.ops.map_phys(bounced.high, 4096, FROM)
    assert (bounced.ops.bounced, bounced.told) == (4096, [("SwiotlbBounced", 0, 0, bounced.high, addr, 4096)])
    assert bounced.ops.unmap_phys(addr, 4096, FROM).bounced == 4096
    addr = bounced.ops.map_phys(bounced.high, 4096, TO)
    assert bounced.ops.unmap_phys(addr, 4096, TO).bounced == 0
    assert bounced.ops.bounced == 12288


def test_a_bounce_is_not_copied_back_where_nobody_wants_it(bounced):
    addr = bounced.ops.map_phys(bounced.high, 4096, FROM)
    bounced.device_writes(addr, b"\xdd" * 4096)
    bounced.ops.unmap_phys(addr, 4096, FROM, Attrs.SKIP_CPU_SYNC)
    assert bounced.bytes_at((bounced.high, 4096)) == bytes(4096)


def test_memory_that_the_device_reaches_is_not_bounced_unless_all_is():
    assert build("mask").ops.map_phys(LOW, 4096, TO) == LOW
    assert build("force").ops.map_phys(LOW, 4096, TO) >= POOL


@pytest.mark.parametrize("attrs", [Attrs.MMIO, Attrs.MACHINE])
def test_mmio_and_another_machines_memory_are_never_bounced(bounced, attrs):
    with pytest.raises(SyscallError, match=r"never bounced \(SWI-4, D-9\) \(-EIO\)"):
        bounced.ops.map_phys(bounced.high, 4096, TO, attrs)
    assert bounced.left() == (0, 0, 0)


def test_without_a_pool_what_is_beyond_the_mask_is_eio():
    ops = DirectMap(DmaDevice(mask=(1 << 25) - 1))
    assert ops.map_phys((1 << 25) - 4096, 4096, TO) == (1 << 25) - 4096
    with pytest.raises(SyscallError) as caught:
        ops.map_phys((1 << 25) - 4096, 4097, TO)
    assert str(caught.value) == (
        "dma: 0x1fff000+4097 is beyond the 25 bits of the device's mask, and there is no pool to bounce it through "
        "(DMA-1) (-EIO)"
    )


def test_a_pool_that_the_device_does_not_reach_is_no_help():
    world = build("mask")
    ops = DirectMap(DmaDevice(mask=(1 << 20) - 1), world.pool)
    with pytest.raises(SyscallError, match="and so is its bounce"):
        ops.map_phys(LOW, 4096, TO)
    assert world.left() == (0, 0, 0)


@pytest.mark.parametrize(("name", "mask"), [("direct", 16), ("strict", 16), ("xen", 16)])
def test_a_mask_that_does_not_even_reach_the_queues_builds_no_machine(name, mask):
    world = build(name)
    dev = DmaDevice(mask=(1 << mask) - 1)
    if name == "strict":
        ops = IommuMap(world.bus, dev, world.clock.later, world.flushed.append, strict=True)
    else:
        ops = DirectMap(dev) if name == "direct" else XenMap(DirectMap(dev), {})
    with pytest.raises(LabkitError, match="device_mask=16") as caught:
        ops.alloc_coherent(LOW, 65536)
    assert caught.value.exit_code == 2


def test_an_iommu_makes_scattered_frames_one_range(behind):
    sg = tuple((LOW + (pfn << 12), 4096) for pfn in range(0, 32, 2))
    assert behind.ops.map_sg(sg, TO) == ((0xFFFF0000, 65536),)
    assert behind.ops.ioptes == 16


def test_the_addresses_of_an_iommu_begin_below_four_gibibytes_with_their_size_as_alignment(behind):
    assert behind.ops.map_phys(LOW, 12288, TO) == 0xFFFFC000
    assert behind.ops.map_phys(LOW, 131072, TO) == 0xFFFC0000
    assert behind.ops.map_phys(LOW + 0xE00, 512, TO) == 0xFFFBFE00


def test_interrupts_and_bars_keep_their_addresses(behind):
    taken = {behind.iovas.alloc(64) >> 8 for _ in range(200)}
    assert 0xFEE not in taken
    assert {0xFEF, 0xFED} <= taken


def linked(ops, phys, nbytes, way):
    """Return the device address of `nbytes` at `phys`, mapped in two steps."""
    state = ops.iova_try_alloc(phys, nbytes)
    ops.iova_link(state, 0, phys, nbytes, Attrs.NONE, way)
    return state.addr


WAYS = {
    "map_phys": lambda ops, *memory: ops.map_phys(*memory),
    "map_sg": lambda ops, phys, nbytes, way: ops.map_sg(((phys, nbytes),), way)[0][0],
    "iova_link": linked,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_device_may_only_go_the_way_that_was_mapped(behind, way):
    mapped = WAYS[way]
    read, write = mapped(behind.ops, LOW, 4096, TO), mapped(behind.ops, LOW, 4096, FROM)
    with pytest.raises(BusFault):
        behind.bus.views(read, 4096, True)
    with pytest.raises(BusFault):
        behind.bus.views(write, 4096, False)
    both = mapped(behind.ops, LOW, 4096, BOTH)
    assert behind.bus.views(both, 4, True)[0] == behind.bus.views(both, 4)[0] == bytes(4)


def link(world, *pfns):
    """Return a state into which frames of memory are linked."""
    state = world.ops.iova_try_alloc(LOW + (pfns[0] << 12), len(pfns) * 4096)
    for at, pfn in enumerate(pfns):
        world.ops.iova_link(state, at * 4096, LOW + (pfn << 12), 4096, dir=TO)
    world.ops.iova_sync(state)
    return state


def test_a_request_is_linked_piece_by_piece_and_goes_as_a_whole(behind):
    state = link(behind, 9, 3, 40)
    assert state == (0xFFFFC000, 12288)
    assert behind.device_reads(state) == b"\x09" * 4096 + b"\3" * 4096 + b"\x28" * 4096
    assert tuple(behind.ops.phys_of([state])) == ((LOW + 0x9000, 4096), (LOW + 0x3000, 4096), (LOW + 0x28000, 4096))
    undone = behind.ops.iova_destroy(state, 12288)
    assert undone == {"lazy 6.18": (0, True, 0)}.get(behind.name, (1, False, 0))
    assert behind.left() == (0, 0, 0)


def test_what_is_unlinked_can_be_linked_again(behind):
    state = link(behind, 9, 3)
    with pytest.raises(InvariantError, match="mapped already"):
        behind.ops.iova_link(state, 4096, LOW, 4096)
    assert behind.ops.iova_unlink(state, 4096, 4096).syncs == 1
    with pytest.raises(BusFault):
        behind.bus.views(state.addr + 4096, 4)
    behind.ops.iova_link(state, 4096, LOW + 0x5000, 4096, dir=TO)
    assert behind.device_reads((state.addr + 4096, 4)) == b"\5" * 4
    behind.ops.iova_destroy(state, 8192)
    assert behind.left() == (0, 0, 0)


def test_only_the_first_link_may_begin_inside_a_page(behind):
    state = behind.ops.iova_try_alloc(LOW + 0xE00, 4608)
    behind.ops.iova_link(state, 0, LOW + 0xE00, 512)
    for offset, phys in ((512, LOW + 0x5004), (516, LOW + 0x5000), (100, LOW + 0x5E64)):
        with pytest.raises(SyscallError, match=r"off a page \(IOVA-8\) \(-EIO\)"):
            behind.ops.iova_link(state, offset, phys, 512)
    behind.ops.iova_destroy(state, 512)
    assert behind.left() == (0, 0, 0)


def test_a_state_that_is_linked_is_not_freed_and_a_free_one_not_linked(behind):
    state = link(behind, 9, 3)
    with pytest.raises(InvariantError, match="still linked"):
        behind.ops.iova_free(state)
    with pytest.raises(InvariantError, match="are not what is linked"):
        behind.ops.iova_destroy(state, 4096)
    behind.ops.iova_destroy(state, 8192)
    for call in (lambda: behind.ops.iova_destroy(state, 8192), lambda: behind.ops.iova_sync(state)):
        with pytest.raises(InvariantError, match="is not allocated"):
            call()
    assert behind.left() == (0, 0, 0)


def test_where_addresses_end_a_state_is_none_and_a_range_enomem(behind):
    behind.iovas.exhaust()
    assert behind.ops.iova_try_alloc(LOW, 4096) is None
    with pytest.raises(SyscallError, match="ENOMEM"):
        behind.ops.map_phys(LOW, 4096, TO)
    assert behind.left() == (0, 0, 0)


def test_without_an_iommu_a_state_was_never_handed_out():
    ops, state = DirectMap(), build("strict").ops.iova_try_alloc(LOW, 4096)
    for call in (
        lambda: ops.iova_link(state, 0, LOW, 4096),
        lambda: ops.iova_sync(state),
        lambda: ops.iova_unlink(state, 0, 4096),
        lambda: ops.iova_destroy(state, 4096),
        lambda: ops.iova_free(state),
    ):
        with pytest.raises(InvariantError, match="never handed out"):
            call()


def test_strict_the_device_cannot_reach_what_it_has_seen_before():
    world = build("strict")
    addr = world.ops.map_phys(LOW, 8192, TO)
    world.device_reads((addr, 8192))
    assert world.ops.unmap_phys(addr, 8192, TO) == (1, False, 0)
    for page in (addr, addr + 4096):
        with pytest.raises(BusFault):
            world.bus.views(page, 4)
    assert (world.flushed, world.ops.map_phys(LOW, 8192, TO)) == ([], addr)


@pytest.mark.parametrize("name", ["lazy 6.18", "lazy 7.3"])
def test_lazy_the_device_still_reaches_what_it_has_seen_until_the_flush(name):
    world = build(name)
    addr = world.ops.map_phys(LOW + 0x3000, 4096, TO)
    world.device_reads((addr, 4096))
    assert world.ops.unmap_phys(addr, 4096, TO) == (0, True, 0)
    assert world.ops.queue == [(((addr, 4096),), ((LOW + 0x3000, 4096),), 1)]
    world.clock.run(until=FLUSH_NS - 1)
    assert world.device_reads((addr, 4096)) == b"\3" * 4096
    assert world.ops.map_phys(LOW, 4096, TO) != addr
    world.clock.run(until=FLUSH_NS + 1)
    assert (world.ops.queue, world.flushed) == ([], [1])
    with pytest.raises(BusFault):
        world.bus.views(addr, 4)
    assert world.ops.map_phys(LOW, 4096, TO) == addr


@pytest.mark.parametrize("name", ["lazy 6.18", "lazy 7.3"])
def test_a_full_flush_queue_is_emptied_at_once_but_after_the_unmap_is_told(name):
    world = build(name)
    for _ in range(FLUSH_QUEUE):
        world.ops.unmap_phys(world.ops.map_phys(LOW, 4096, TO), 4096, TO)
    assert (len(world.ops.queue), world.flushed) == (256, [])
    world.clock.run(until=1)
    assert (world.ops.queue, world.flushed) == ([], [1])


def test_the_timer_starts_with_the_first_entry_and_a_flush_stops_it():
    world = build("lazy 7.3")

    def once():
        world.ops.unmap_phys(world.ops.map_phys(LOW, 4096, TO), 4096, TO)

    once()
    world.clock.run(until=4_000_000)
    once()
    world.ops.flush()
    world.clock.run(until=5_000_000)
    once()
    world.clock.run(until=14_999_999)
    assert (len(world.ops.queue), world.flushed) == (1, [1])
    world.clock.run(until=15_000_001)
    assert (world.ops.queue, world.flushed) == ([], [1, 1])
    world.ops.flush()
    assert world.flushed == [1, 1]


def untrusted():
    """Return a world whose device nobody trusts, behind an IOMMU in lazy mode."""
    world = build("force")
    world.bus = Iommu(world.ram)
    dev = DmaDevice(untrusted=True)
    world.ops = IommuMap(world.bus, dev, world.clock.later, world.flushed.append, strict=False, swiotlb=world.pool)
    world.iovas = world.ops.iovas
    return world


def test_iova_1_a_device_that_nobody_trusts_sees_zeros_around_what_is_no_whole_page():
    world = untrusted()
    world.fill(POOL, MIB, 0xAA)
    addr = world.ops.map_phys(LOW + 0x3200, 512, BOTH)
    assert world.device_reads((addr - 512, 4096)) == bytes(512) + b"\3" * 512 + bytes(3072)
    world.device_writes(addr, b"\xee" * 512)
    assert world.ops.unmap_phys(addr, 512, BOTH) == (1, False, 512)
    assert world.bytes_at((LOW + 0x3000, 4096)) == b"\3" * 512 + b"\xee" * 512 + b"\3" * 3072
    assert world.left() == (0, 0, 0)


def test_iova_1_whole_pages_are_mapped_as_they_are_even_for_a_device_that_nobody_trusts():
    world = untrusted()
    addr = world.ops.map_phys(LOW + 0x3000, 8192, TO)
    assert tuple(world.ops.phys_of([(addr, 8192)])) == ((LOW + 0x3000, 8192),)
    assert world.ops.iova_try_alloc(LOW + 4, 4096) is None
    assert world.ops.max_mapping_size == 256 << 10
    with pytest.raises(SyscallError, match="EPERM"):
        world.ops.map_phys(LOW + 4, 512, TO, Attrs.MMIO)
    world.ops.unmap_phys(addr, 8192, TO)
    sg = ((LOW + 4, 8), (LOW + 0x1000, 4096))
    world.ops.unmap_sg(sg, world.ops.map_sg(sg, TO), TO)
    assert world.left() == (0, 0, 0)


def test_a_domain_of_a_small_mask_stays_below_it():
    world = build("strict")
    ops = IommuMap(world.bus, DmaDevice(mask=(1 << 24) - 1), world.clock.later, world.flushed.append, strict=True)
    assert ops.map_phys(LOW, 4096, TO) == 0xFFF000
