import pytest

from labkit.errors import SyscallError
from labkit.kernel.dma.direct import DirectMap
from labkit.kernel.dma.xen import XenMap
from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.range_array import RangeArray


def xen(**p2m):
    return XenMap(DirectMap(), {int(pfn[1:]): mfn for pfn, mfn in p2m.items()})


def test_without_a_table_every_frame_is_its_own():
    assert xen().map(((0x7000, 8192),)).dma == ((0x7000, 8192),)


def test_one_range_of_the_guest_is_split_where_machine_frames_do_not_touch():
    mapping = xen(_7=0x100, _8=0x200, _9=0x201).map(((0x7000, 12288),))
    assert mapping.dma == ((0x100000, 4096), (0x200000, 8192))
    assert (mapping.phys, mapping.maps) == (((0x7000, 12288),), 2)


def test_two_ranges_of_the_guest_are_one_where_machine_frames_touch():
    mapping = xen(_7=0x100, _33=0x101).map(((0x7000, 4096), (0x21000, 4096)))
    assert mapping.dma == ((0x100000, 8192),)
    assert (mapping.phys, mapping.maps) == (((0x7000, 4096), (0x21000, 4096)), 1)


def test_an_offset_and_a_tail_stay_inside_their_frames():
    mapping = xen(_7=0x100, _8=0x300).map(((0x7E00, 1024),))
    assert mapping.dma == ((0x100E00, 512), (0x300000, 512))


def test_foreign_memory_brings_machine_addresses():
    foreign = MemoryClass("foreign", "dom1")
    assert xen(_7=0x100).map(((0x7000, 4096),), foreign).dma == ((0x7000, 4096),)


def test_mmio_is_its_own_unless_the_table_says_otherwise():
    bar = MemoryClass("mmio", "gpu0")
    assert xen(_7=0x100).map(((0xF0000000, 4096),), bar).dma == ((0xF0000000, 4096),)


def test_columns_are_translated_alike():
    vecs = tuple((pfn << 12, 4096) for pfn in range(0, 100, 2))
    p2m = {f"_{pfn}": pfn ^ 2 for pfn in range(100)}
    assert xen(**p2m).map(RangeArray.join([vecs])).dma == xen(**p2m).map(vecs).dma


def test_shared_memory_must_be_one_piece_of_the_machine():
    assert xen(_7=0x100, _8=0x101).alloc_coherent(0x7000, 8192) == 0x100000
    with pytest.raises(SyscallError) as caught:
        xen(_7=0x100, _8=0x102).alloc_coherent(0x7000, 8192)
    assert str(caught.value) == "xen: 0x7000+8192 is 2 ranges of machine memory (D-16) (-ENOMEM)"


def test_the_inner_way_decides_about_flushes():
    assert (xen().stale, xen().syncs) == (False, 0)
