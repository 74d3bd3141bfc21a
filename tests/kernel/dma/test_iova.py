import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InvariantError, SyscallError
from labkit.kernel.dma.iova import DMA_32BIT_PFN, IOVA_MAG_SIZE, MAX_GLOBAL_MAGS, IovaDomain


def test_addresses_are_given_from_four_gibibytes_down():
    domain = IovaDomain()
    assert [domain.alloc(1), domain.alloc(1)] == [0xFFFFF, 0xFFFFE]


@pytest.mark.parametrize(
    ("pages", "start"), [(2, 0xFFFFE), (3, 0xFFFFC), (16, 0xFFFF0), (17, 0xFFFE0), (33, 0xFFFC0), (168, 0xFFF00)]
)
def test_iova_4_a_range_is_aligned_to_its_own_size(pages, start):
    assert IovaDomain().alloc(pages) == start


def test_iova_3_below_32_pages_a_power_of_two_is_taken():
    domain = IovaDomain(1024)
    assert [domain.alloc(3), domain.alloc(3), domain.alloc(31)] == [1020, 1016, 960]
    assert domain.used == 4 + 4 + 32


def test_from_32_pages_on_only_the_alignment_leaves_gaps():
    domain = IovaDomain(1024)
    assert [domain.alloc(33), domain.alloc(1)] == [960, 959]
    assert domain.used == 34


def test_iova_3_a_freed_range_is_reused_last_in_first_out():
    domain = IovaDomain(1024)
    first, second = domain.alloc(3), domain.alloc(4)
    domain.free(first, 3)
    domain.free(second, 4)
    assert [domain.alloc(4), domain.alloc(3)] == [second, first]


def test_iova_3_no_more_is_kept_than_two_magazines_and_a_full_depot():
    domain = IovaDomain()
    most = IOVA_MAG_SIZE * (2 + MAX_GLOBAL_MAGS)
    starts = [domain.alloc(1) for _ in range(most + 1)]
    for start in starts[:most]:
        domain.free(start, 1)
    assert len(domain._starts) == most + 1
    domain.free(starts[most], 1)
    assert len(domain._starts) == most + 1 - IOVA_MAG_SIZE
    again = [domain.alloc(1) for _ in range(most + 1 - IOVA_MAG_SIZE)]
    assert sorted(again) == sorted(starts[:IOVA_MAG_SIZE] + starts[2 * IOVA_MAG_SIZE :])  # the first is at hand still


def test_large_ranges_that_touch_become_one_gap_again():
    domain = IovaDomain(1024)
    starts = [domain.alloc(64) for _ in range(15)]
    with pytest.raises(SyscallError):
        domain.alloc(256)
    for start in starts[:4]:
        domain.free(start, 64)
    assert domain.alloc(256) == 768


def test_small_ranges_that_are_kept_for_reuse_go_before_addresses_run_out():
    domain = IovaDomain(1024)
    starts = [domain.alloc(1) for _ in range(600)]
    for start in starts:
        domain.free(start, 1)
    assert domain.alloc(512) == 512
    assert domain.used == 512


def test_page_zero_is_never_given_out_and_the_end_is_enomem():
    domain = IovaDomain(4)
    assert [domain.alloc(1), domain.alloc(1), domain.alloc(1)] == [3, 2, 1]
    with pytest.raises(SyscallError) as caught:
        domain.alloc(1)
    assert str(caught.value) == "iommu: 1 pages find no room in the device's address space (-ENOMEM)"
    domain.free(2, 1)
    assert domain.alloc(1) == 2


def test_iova_2_below_four_gibibytes_first_and_above_for_good_after_the_first_failure():
    domain = IovaDomain(1 << 36)
    half = DMA_32BIT_PFN // 2
    first = domain.alloc(half)
    assert (first, domain.pci_32bit_workaround) == (half, True)
    second = domain.alloc(half)
    assert (second, domain.pci_32bit_workaround) == ((1 << 36) - half, False)
    domain.free(first, half)
    assert domain.alloc(half) == (1 << 36) - 2 * half


def test_iova_4_a_size_that_found_no_room_is_refused_at_once_until_something_is_freed():
    domain = IovaDomain(1024)
    start = domain.alloc(512)
    with pytest.raises(SyscallError):
        domain.alloc(512)
    assert domain._max32_alloc_size == 512
    assert domain.alloc(256) == 256
    domain.free(start, 512)
    assert domain._max32_alloc_size == DMA_32BIT_PFN
    assert domain.alloc(512) == start


def test_what_is_reserved_is_never_handed_out():
    domain = IovaDomain(1024)
    taken = domain.alloc(1)
    domain.reserve(1000 << 12, 64 << 12)
    domain.reserve(0, 10 << 12)
    domain.reserve(990 << 12, 20 << 12)
    got = {domain.alloc(1) for _ in range(980)}
    assert got == set(range(10, 990))
    assert taken == 1023
    assert domain.used == 981
    with pytest.raises(SyscallError):
        domain.alloc(1)


def test_an_exhausted_domain_gives_nothing_not_even_what_comes_back():
    domain = IovaDomain(1024)
    kept, out = domain.alloc(1), domain.alloc(1)
    domain.free(kept, 1)
    domain.exhaust()
    domain.free(out, 1)
    with pytest.raises(SyscallError, match="ENOMEM"):
        domain.alloc(1)
    assert domain.used == 0


def test_what_was_not_handed_out_like_that_cannot_come_back():
    domain = IovaDomain(1024)
    start = domain.alloc(4)
    for bad in ((start, 8), (start + 1, 1), (3, 1)):
        with pytest.raises(InvariantError, match="is not what was handed out"):
            domain.free(*bad)
    assert domain.used == 4


@given(st.lists(st.tuples(st.integers(1, 70), st.integers(0, 9)), max_size=80))
def test_invariant_5_ranges_are_disjoint_aligned_and_reusable(steps):
    domain, out = IovaDomain(4096), []
    for pages, which in steps:
        if which > 5 and out:
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
    for start, pages in out:
        domain.free(start, pages)
    assert domain.used == 0
    assert domain.alloc(2048) == 2048
