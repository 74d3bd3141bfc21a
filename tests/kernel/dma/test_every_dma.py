from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.device import BusFault
from labkit.hardware.iommu import Iommu
from labkit.hardware.ram import RAM
from labkit.kernel.dma.direct import DirectMap
from labkit.kernel.dma.iommu import FLUSH_NS, FLUSH_QUEUE, IommuMap
from labkit.kernel.dma.iova import IovaDomain
from labkit.kernel.dma.xen import XenMap
from labkit.scatter.memory_class import RAM as ORDINARY
from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.range_array import RangeArray

BOTH = ((0x7000, 4096), (0x21000, 4096))
NAMES = ("direct", "strict", "lazy", "xen on direct", "xen on strict", "xen on lazy")
P2M = {pfn: pfn ^ 2 for pfn in range(16, 256)}
"""Guest frames lie two by two in the machine; the first sixteen are their own."""
CLASSES = (ORDINARY, MemoryClass("mmio", "gpu0"), MemoryClass("foreign", "dom1"))


class Guest:
    """Memory as a guest of the hypervisor sees it: each frame lies where the table says."""

    def __init__(self, ram, p2m):
        self.ram, self.p2m = ram, p2m

    def gather(self, ranges):
        return b"".join(bytes(self.frame(*part)) for addr, nbytes in ranges for part in by_frame(addr, nbytes))

    def frame(self, start, end):
        mfn = self.p2m.get(start >> 12, start >> 12)
        return self.ram.view(mfn << 12 | start & 4095, end - start)


def by_frame(addr, nbytes):
    """Return (start, end) of each part of a range that lies in one frame."""
    return pairwise([addr, *range((addr | 4095) + 1, addr + nbytes, 4096), addr + nbytes])


def build(name, pages=1 << 20):
    """Build one way to map, the bus that a device of it sees, and what it says of flushes."""
    if name.startswith("xen"):
        inner = build(name.removeprefix("xen on "), pages)
        inner.map, inner.ram = XenMap(inner.map, P2M), Guest(inner.ram, P2M)
        return inner
    clock, ram, flushed = Clock(), RAM(memoryview(bytearray(1 << 20))), []
    for pfn in range(256):
        ram.view(pfn << 12, 4)[:] = pfn.to_bytes(4, "little")
    if name == "direct":
        return SimpleNamespace(name=name, map=DirectMap(), bus=ram, ram=ram, clock=clock, flushed=flushed)
    iommu = Iommu(ram)
    dma = IommuMap(iommu, clock.later, flushed.append, strict=name == "strict")
    dma._iovas = IovaDomain(pages)
    return SimpleNamespace(name=name, map=dma, bus=iommu, ram=ram, clock=clock, flushed=flushed)


@pytest.fixture(params=NAMES)
def dma(request):
    return build(request.param)


@pytest.fixture(params=("strict", "lazy"))
def iommu(request):
    return build(request.param)


def read(bus, ranges):
    return b"".join(bytes(view) for addr, nbytes in ranges for view in bus.views(addr, nbytes))


def test_the_device_reaches_the_bytes_that_were_mapped(dma):
    mapping = dma.map.map(BOTH)
    assert read(dma.bus, mapping.dma) == dma.ram.gather(BOTH)
    assert mapping.phys == BOTH


def test_what_touches_is_joined_across_vectors(dma):
    mapping = dma.map.map(((0x7000, 4096), (0x8000, 4096), (0x21000, 512)))
    assert mapping.phys == ((0x7000, 8192), (0x21000, 512))
    assert mapping.maps == 2  # under Xen too: the machine has these two side by side
    assert sum(nbytes for _, nbytes in mapping.dma) == 8704


def test_memory_for_good_is_reached_by_the_address_that_it_got(dma):
    addr = dma.map.alloc_coherent(0x10000, 8192)
    assert read(dma.bus, ((addr, 8192),)) == dma.ram.gather(((0x10000, 8192),))


@pytest.mark.parametrize("cls", CLASSES)
def test_memory_of_any_class_is_mapped_and_never_copied(dma, cls):
    machine = dma.ram.ram if cls.kind == "foreign" and isinstance(dma.ram, Guest) else dma.ram
    mapping = dma.map.map(BOTH, cls)
    assert mapping.phys == BOTH
    assert read(dma.bus, mapping.dma) == machine.gather(BOTH)
    dma.map.unmap(mapping)
    dma.clock.run()


def test_columns_are_mapped_as_tuples_are(dma):
    vecs = tuple((pfn << 12, 4096) for pfn in (7, 8, 9, 40, 41, 60, 42, 43))
    plain, columns = dma.map.map(vecs), dma.map.map(RangeArray.join([vecs]))
    assert (columns.phys, columns.maps) == (plain.phys, plain.maps)
    assert read(dma.bus, columns.dma) == read(dma.bus, plain.dma) == dma.ram.gather(vecs)


def test_one_mapping_does_not_disturb_another(dma):
    first, second = dma.map.map(BOTH), dma.map.map(((0x30000, 4096),))
    dma.map.unmap(first)
    assert read(dma.bus, second.dma) == dma.ram.gather(((0x30000, 4096),))
    assert not {addr for addr, _ in first.dma} & {addr for addr, _ in second.dma}


@pytest.mark.parametrize("name", NAMES)
@given(
    pfns=st.lists(st.integers(0, 254), min_size=1, max_size=40, unique=True),
    skew=st.integers(0, 4095),
    tail=st.integers(1, 4096),
)
def test_lengths_are_preserved_and_every_byte_is_in_its_place(name, pfns, skew, tail):
    dma = build(name)
    ranges = [(pfn << 12, 4096) for pfn in pfns]
    ranges[-1] = (ranges[-1][0], tail)
    ranges[0] = (ranges[0][0] + skew, max(1, ranges[0][1] - skew))
    mapping = dma.map.map(tuple(ranges))
    assert sum(n for _, n in mapping.dma) == sum(n for _, n in mapping.phys) == sum(n for _, n in ranges)
    assert read(dma.bus, mapping.dma) == dma.ram.gather(tuple(ranges))
    dma.map.unmap(mapping)
    dma.clock.run()


def test_without_an_iommu_scattered_frames_stay_scattered_and_nothing_is_kept():
    dma = build("direct")
    mapping = dma.map.map(BOTH)
    assert (mapping.dma, mapping.maps, mapping.ioptes, mapping.descriptor_bytes) == (BOTH, 2, 0, 0)
    assert (dma.map.stale, dma.map.syncs) == (False, 0)
    dma.map.unmap(mapping)
    assert read(dma.bus, mapping.dma) == dma.ram.gather(BOTH)


def test_an_iommu_makes_scattered_frames_one_range(iommu):
    mapping = iommu.map.map(tuple((pfn << 12, 4096) for pfn in range(0, 32, 2)))
    assert mapping.dma == ((0xFFFF0000, 65536),)
    assert (mapping.maps, mapping.ioptes, mapping.descriptor_bytes) == (16, 16, 16)


def test_an_offset_in_the_first_page_is_kept(iommu):
    mapping = iommu.map.map(((0x7E00, 512), (0x21000, 4096)))
    assert mapping.dma == ((0xFFFFEE00, 4608),)
    assert mapping.ioptes == 2


def test_after_an_unmap_the_entries_are_gone(iommu):
    mapping = iommu.map.map(BOTH)
    iommu.map.unmap(mapping)
    assert iommu.bus.ioptes == {}
    with pytest.raises(BusFault):
        iommu.bus.views(mapping.dma[0][0], 4096)


def test_strict_the_device_cannot_reach_what_it_has_seen_before():
    dma = build("strict")
    mapping = dma.map.map(BOTH)
    read(dma.bus, mapping.dma)
    dma.map.unmap(mapping)
    assert (dma.map.stale, dma.map.syncs, dma.flushed) == (False, 1, [])
    for page in (0, 4096):
        with pytest.raises(BusFault):
            dma.bus.views(mapping.dma[0][0] + page, 4096)


def test_lazy_the_device_still_reaches_what_it_has_seen_until_the_flush():
    dma = build("lazy")
    mapping = dma.map.map(BOTH)
    read(dma.bus, mapping.dma)
    dma.map.unmap(mapping)
    assert (dma.map.stale, dma.map.syncs) == (True, 0)
    assert dma.map.queue == [mapping]
    assert read(dma.bus, mapping.dma) == dma.ram.gather(BOTH)
    dma.clock.run(until=FLUSH_NS - 1)
    assert read(dma.bus, mapping.dma) == dma.ram.gather(BOTH)
    dma.clock.run(until=FLUSH_NS + 1)
    assert (dma.map.queue, dma.flushed) == ([], [1])
    with pytest.raises(BusFault):
        dma.bus.views(mapping.dma[0][0], 4096)


def test_strict_an_address_is_reused_at_once():
    dma = build("strict")
    first = dma.map.map(BOTH)
    dma.map.unmap(first)
    assert dma.map.map(BOTH).dma == first.dma


def test_lazy_an_address_is_reused_after_the_flush_alone():
    dma = build("lazy")
    first = dma.map.map(BOTH)
    dma.map.unmap(first)
    assert dma.map.map(BOTH).dma != first.dma
    dma.map.flush()
    assert dma.map.map(BOTH).dma == first.dma


def test_a_full_flush_queue_is_emptied_at_once():
    dma = build("lazy")
    for _ in range(FLUSH_QUEUE - 1):
        dma.map.unmap(dma.map.map(((0x7000, 4096),)))
    assert (len(dma.map.queue), dma.flushed) == (255, [])
    dma.map.unmap(dma.map.map(((0x7000, 4096),)))
    assert (dma.map.queue, dma.flushed) == ([], [1])


def test_the_timer_starts_with_the_first_entry_and_a_flush_stops_it():
    dma = build("lazy")
    dma.map.unmap(dma.map.map(BOTH))
    dma.clock.run(until=4_000_000)
    dma.map.unmap(dma.map.map(BOTH))
    dma.map.flush()
    dma.clock.run(until=5_000_000)
    dma.map.unmap(dma.map.map(BOTH))
    dma.clock.run(until=14_999_999)
    assert (len(dma.map.queue), dma.flushed) == (1, [1])
    dma.clock.run(until=15_000_001)
    assert (dma.map.queue, dma.flushed) == ([], [1, 1])


def test_a_flush_of_nothing_says_nothing():
    dma = build("lazy")
    dma.map.flush()
    assert dma.flushed == []


@pytest.mark.parametrize("name", ["strict", "lazy"])
def test_when_addresses_run_out_nothing_is_left_half_mapped(name):
    dma = build(name, pages=8)
    first = dma.map.map(tuple((pfn << 12, 4096) for pfn in range(0, 8, 2)))
    before = dict(dma.bus.ioptes)
    with pytest.raises(SyscallError, match="ENOMEM"):
        dma.map.map(tuple((pfn << 12, 4096) for pfn in range(0, 16, 2)))
    assert dma.bus.ioptes == before
    dma.map.unmap(first)
    dma.clock.run()
    assert dma.map.map(tuple((pfn << 12, 4096) for pfn in range(0, 8, 2))).dma == first.dma
