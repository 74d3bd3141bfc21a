import pytest

from labkit.units import (
    MAX_PAGE_ORDER,
    PAGE_SIZE,
    PFN_PHYS,
    PHYS_PFN,
    PMD_ORDER,
    SECTOR_SIZE,
    TASK_SIZE_MAX,
    human_bytes,
    human_ns,
)


def test_the_sizes_are_those_of_x86_64():
    assert (PAGE_SIZE, SECTOR_SIZE) == (4096, 512)
    assert (PMD_ORDER, MAX_PAGE_ORDER) == (9, 10)
    assert TASK_SIZE_MAX == 0x7FFF_FFFF_F000


def test_a_frame_number_is_an_address_shifted_by_twelve():
    assert PFN_PHYS(33) == 0x21000
    assert PHYS_PFN(0x21000) == 33
    assert PHYS_PFN(0x21FFF) == 33


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1 MiB"),
        ((1 << 20) - 512, "1023.5 KiB"),
        (4 << 30, "4 GiB"),
        (1 << 40, "1024 GiB"),
    ],
)
def test_bytes_as_people_write_them(nbytes, text):
    assert human_bytes(nbytes) == text


@pytest.mark.parametrize(
    ("nsec", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1000, "1.00 µs"),
        (24_200, "24.20 µs"),
        (-24_200, "-24.20 µs"),
        (1_500_000, "1.50 ms"),
        (2_000_000_000, "2.00 s"),
    ],
)
def test_times_as_people_write_them(nsec, text):
    assert human_ns(nsec) == text
