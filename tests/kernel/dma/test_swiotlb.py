import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import BadInput, InvariantError, SyscallError
from labkit.hardware.ram import RAM
from labkit.kernel.dma.ops import Attrs, DmaDevice, DmaDir
from labkit.kernel.dma.swiotlb import IO_TLB_SIZE, SEGMENT_BYTES, SwioTlb

MIB, AT = 1 << 20, 4 << 20
NVME, PLAIN = DmaDevice(min_align_mask=4095), DmaDevice()


def make(nbytes=MIB, **more):
    ram, told = RAM(memoryview(bytearray(8 * MIB))), []
    return SwioTlb(ram, range(AT, AT + nbytes, SEGMENT_BYTES), told.append, lambda: 7, **more), ram, told


def test_swi_1_no_bounce_is_longer_than_a_segment_less_what_keeps_its_alignment():
    pool, _, _ = make()
    assert (pool.max_mapping_size(PLAIN), pool.max_mapping_size(NVME)) == (256 << 10, 252 << 10)
    assert pool.map(0, 252 << 10, NVME) == AT
    with pytest.raises(SyscallError, match="more than a bounce may have"):
        pool.map(0, (252 << 10) + 1, NVME)
    assert pool.in_use == 126


def test_swi_1_a_pool_of_less_than_a_mebibyte_is_none():
    with pytest.raises(BadInput, match="less than 1 MiB"):
        make(SEGMENT_BYTES)


@pytest.mark.parametrize(
    ("stride", "addrs"), [(4096, [AT, AT + 0x1000, AT + 0x2000]), (8192, [AT, AT + 0x2000, AT + 0x4000])]
)
def test_swi_2_pages_follow_each_other_at_the_stride_of_the_kernel(stride, addrs):
    pool, _, _ = make(stride=stride)
    assert [pool.map(0x1000, 4096, NVME) for _ in range(3)] == addrs


def test_swi_2_the_place_in_a_page_is_kept_for_a_device_that_asks_for_it():
    pool, _, _ = make()
    assert [pool.map(phys, 512, NVME) % 4096 for phys in (0x200, 0x800, 0xE00, 0)] == [0x200, 0x800, 0xE00, 0]
    pool, _, _ = make()
    assert [pool.map(phys, 512, PLAIN) for phys in (0x200, 0x800, 0xE00)] == [AT, AT + 2048, AT + 4096]


def test_swi_2_the_search_goes_on_behind_the_last_and_around():
    pool, _, _ = make()
    first = pool.map(0, 4096, NVME)
    pool.unmap(first, 4096, DmaDir.TO_DEVICE)
    assert pool.map(0, 4096, NVME) == first + 4096
    for _ in range(254):
        pool.map(0, 4096, NVME)
    assert pool.map(0, 4096, NVME) == first


def test_swi_2_no_bounce_crosses_a_boundary_of_the_device():
    pool, _, _ = make()
    dev = DmaDevice(seg_boundary_mask=0xFFFF)
    assert [pool.map(0, 40 << 10, dev) for _ in range(3)] == [AT, AT + 0x10000, AT + 0x20000]


def test_swi_2_areas_have_an_index_each_and_the_next_one_helps_out():
    pool, _, _ = make(2 * MIB, areas=2)
    got = [pool.map(0, 252 << 10, NVME) for _ in range(8)]
    assert got == [AT + at * SEGMENT_BYTES for at in range(8)]
    with pytest.raises(SyscallError) as caught:
        pool.map(0, 252 << 10, NVME)
    assert str(caught.value) == "swiotlb: 126 slots are not to be had: the pool is full (SWI-2) (-ENOMEM)"


def test_a_pool_that_others_have_filled_gives_nothing():
    pool, _, told = make()
    pool.fill()
    with pytest.raises(SyscallError, match="ENOMEM"):
        pool.map(0, 4, NVME)
    assert (pool.in_use, pool.bounced, told) == (0, 0, [])


def test_swi_3_a_map_copies_whatever_the_direction_and_an_unmap_where_the_device_may_have_written():
    pool, ram, told = make()
    ram.view(0x1000, 4096)[:] = b"\1" * 4096
    addr = pool.map(0x1000, 4096, NVME)
    assert (told, pool.origin(addr + 5)) == ([("SwiotlbBounced", 7, 0, 0x1000, addr, 4096)], 0x1005)
    ram.view(addr, 8)[:] = b"\2" * 8
    assert pool.unmap(addr, 4096, DmaDir.FROM_DEVICE) == 4096
    assert ram.view(0x1000, 16) == b"\2" * 8 + b"\1" * 8
    for way, attrs in ((DmaDir.TO_DEVICE, Attrs.NONE), (DmaDir.BIDIRECTIONAL, Attrs.SKIP_CPU_SYNC)):
        addr = pool.map(0x1000, 4096, NVME)
        ram.view(addr, 8)[:] = b"\3" * 8
        assert pool.unmap(addr, 4096, way, attrs) == 0
    assert ram.view(0x1000, 8) == b"\2" * 8
    assert (pool.in_use, pool.bounced) == (0, 4 * 4096)


def test_what_is_not_bounced_has_no_origin_and_cannot_be_unmapped():
    pool, _, _ = make()
    for call in (lambda: pool.origin(AT), lambda: pool.unmap(AT, 4, DmaDir.TO_DEVICE)):
        with pytest.raises(InvariantError, match="is not bounced"):
            call()
    assert pool.owns(AT)
    assert not pool.owns(AT - 1)


@given(st.lists(st.tuples(st.integers(0, MIB), st.integers(1, 60000), st.integers(0, 5)), max_size=60))
def test_invariant_6_slots_are_conserved_disjoint_and_keep_offsets(steps):
    pool, _, _ = make()
    out = {}
    for phys, nbytes, which in steps:
        if which > 3 and out:
            addr = sorted(out)[which % len(out)]
            pool.unmap(addr, out.pop(addr), DmaDir.TO_DEVICE)
            continue
        try:
            addr = pool.map(phys, nbytes, NVME)
        except SyscallError:
            continue
        assert addr % 4096 == phys % 4096
        assert addr // SEGMENT_BYTES == (addr + nbytes - 1) // SEGMENT_BYTES
        out[addr] = nbytes
    slots = [slot for addr, n in out.items() for slot in range(addr // IO_TLB_SIZE, (addr + n - 1) // IO_TLB_SIZE + 1)]
    assert len(slots) == len(set(slots)) == pool.in_use
    for addr, nbytes in out.items():
        pool.unmap(addr, nbytes, DmaDir.TO_DEVICE)
    assert pool.in_use == 0
