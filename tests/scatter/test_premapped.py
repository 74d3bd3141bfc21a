"""Device addresses flow, are cut and joined as any memory is, and belong to one device."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.premapped import DmaVecs

NVME = MemoryClass("dma", "0000:01:00.0")
MANY = tuple((at * 8192, 4096) for at in range(100))


def test_ranges_that_touch_are_one_vector():
    found = DmaVecs.of(((0xF000, 4096), (0x10000, 4096), (0x20000, 512)), "0000:01:00.0")
    assert found == DmaVecs(((0xF000, 8192), (0x20000, 512)), NVME)
    assert (found.nbytes, found.classes) == (8704, ((NVME, 8704),))


def test_nobody_below_asks_a_struct_page_where_it_is():
    assert DmaVecs.of(((0xF000, 4096),), "nvme").struct_pages == 0


def test_memory_of_a_device_is_of_no_class_but_its_own():
    assert len({NVME, MemoryClass("dma", "0000:02:00.0"), MemoryClass("mmio", "0000:01:00.0"), RAM}) == 4


def test_a_slice_is_arithmetic_on_device_addresses():
    found = DmaVecs.of(((0xF000, 8192), (0x20000, 4096)), "nvme")
    assert found.slice(4096, 6144).vecs == ((0x10000, 4096), (0x20000, 2048))
    assert found.slice(0, 12288) is found


def test_parts_are_joined_where_they_touch():
    found = DmaVecs.of(((0xF000, 8192),), "nvme")
    assert DmaVecs.join([found.slice(0, 512), found.slice(512, 512), found.slice(0, 512)]).vecs == (
        (0xF000, 1024), (0xF000, 512),
    )  # fmt: skip
    assert DmaVecs.join([found]) is found


@pytest.mark.parametrize("ranges", [MANY[:3], MANY])
@given(data=st.data())
def test_few_and_many_are_cut_alike(ranges, data):
    found = DmaVecs.of(ranges, "nvme")
    start = data.draw(st.integers(0, found.nbytes - 1))
    nbytes = data.draw(st.integers(1, found.nbytes - start))
    flat = [addr + at for addr, length in ranges for at in range(0, length, 512)]
    part = found.slice(start, nbytes)
    assert part.nbytes == nbytes
    assert part.vecs[0][0] == flat[start // 512] + start % 512
