import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.kernel.dma.iova import IovaDomain


def test_addresses_are_given_from_four_gibibytes_down():
    domain = IovaDomain()
    assert [domain.alloc(1), domain.alloc(1)] == [0xFFFFF, 0xFFFFE]


@pytest.mark.parametrize(
    ("pages", "start"), [(2, 0xFFFFE), (3, 0xFFFFC), (16, 0xFFFF0), (17, 0xFFFE0), (33, 0xFFFC0), (512, 0xFFE00)]
)
def test_a_range_is_aligned_to_its_own_size(pages, start):
    assert IovaDomain().alloc(pages) == start


def test_below_32_pages_a_power_of_two_is_taken():
    domain = IovaDomain(1024)
    assert [domain.alloc(3), domain.alloc(3), domain.alloc(31)] == [1020, 1016, 960]


def test_from_32_pages_on_only_the_alignment_leaves_gaps():
    domain = IovaDomain(1024)
    assert [domain.alloc(33), domain.alloc(1)] == [960, 959]


def test_a_freed_range_is_reused_last_in_first_out():
    domain = IovaDomain(1024)
    first, second = domain.alloc(3), domain.alloc(4)
    domain.free(first, 3)
    domain.free(second, 4)
    assert [domain.alloc(4), domain.alloc(3)] == [second, first]


def test_page_zero_is_never_given_out_and_the_end_is_enomem():
    domain = IovaDomain(4)
    assert [domain.alloc(1), domain.alloc(1), domain.alloc(1)] == [3, 2, 1]
    with pytest.raises(SyscallError) as caught:
        domain.alloc(1)
    assert str(caught.value) == "iommu: 1 pages find no room in the device's address space (-ENOMEM)"
    domain.free(2, 1)
    assert domain.alloc(1) == 2


@given(st.lists(st.tuples(st.integers(1, 70), st.integers(0, 9)), max_size=60))
def test_ranges_that_are_out_never_overlap(steps):
    domain, out = IovaDomain(4096), []
    for pages, which in steps:
        if which > 6 and out:
            domain.free(*out.pop(which % len(out)))
            continue
        try:
            start = domain.alloc(pages)
        except SyscallError:
            continue
        assert start % (1 << (pages - 1).bit_length()) == 0
        out.append((start, pages))
    taken = [page for start, pages in out for page in range(start, start + pages)]
    assert len(set(taken)) == len(taken)
    assert all(0 < page < 4096 for page in taken)
