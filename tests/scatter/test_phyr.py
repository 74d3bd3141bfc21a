from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from labkit.scatter.phyr import PHYR_BYTES, Phyr, PhyrList

PFNS = st.lists(st.integers(0, 30), max_size=40)


def runs(pfns):
    """Return (first frame, frames) of each run: the frame minus its place is equal within one."""
    groups = groupby(enumerate(pfns), key=lambda item: item[1] - item[0])
    return [(next(members)[1], 1 + sum(1 for _ in members)) for _, members in groups]


def phyrs(*ranges):
    return PhyrList(Phyr(addr, nbytes) for addr, nbytes in ranges)


def test_contiguous_frames_are_one_phyr():
    assert PhyrList.coalesce([Phyr(0x7000, 4096), Phyr(0x8000, 4096)]) == phyrs((0x7000, 8192))


def test_scattered_frames_are_one_phyr_each():
    assert PhyrList.coalesce([Phyr(0x7000, 4096), Phyr(0x21000, 4096)]) == phyrs((0x7000, 4096), (0x21000, 4096))


def test_a_phyr_may_be_longer_than_32_bits_can_say():
    assert PhyrList.coalesce([Phyr(0, 1 << 32), Phyr(1 << 32, 1 << 32)]) == phyrs((0, 1 << 33))


def test_pieces_of_no_length_leave_no_trace():
    assert PhyrList.coalesce([Phyr(0x7000, 0), Phyr(0x9000, 512), Phyr(0x1000, 0)]) == phyrs((0x9000, 512))
    assert PhyrList.coalesce([]) == ()


def test_worked_vector_v1():
    pieces = [Phyr((100 << 12) + 512, 3584), Phyr(101 << 12, 4096), Phyr(300 << 12, 1024)]
    assert PhyrList.coalesce(pieces) == phyrs((0x64200, 7680), (0x12C000, 1024))


def test_a_phyr_takes_as_much_memory_as_a_bio_vec():
    assert PHYR_BYTES == 16


def test_a_list_knows_its_bytes_and_needs_no_struct_page():
    both = phyrs((0x7000, 4096), (0x21000, 512))
    assert (both.nbytes, both.vecs, both.struct_pages) == (4608, ((0x7000, 4096), (0x21000, 512)), 0)
    assert phyrs((0x7000, 4096)).nbytes == 4096
    assert phyrs().nbytes == 0


def test_a_slice_is_arithmetic():
    both = phyrs((0x7000, 4096), (0x21000, 4096))
    assert both.slice(0, 512) == phyrs((0x7000, 512))
    assert both.slice(3584, 1024) == phyrs((0x7E00, 512), (0x21000, 512))
    assert both.slice(4096, 4096) == phyrs((0x21000, 4096))
    assert both.slice(0, 8192) is both
    assert both.slice(0, 0) == ()


def test_a_slice_is_a_list_of_phyrs_again():
    part = phyrs((0x7000, 4096)).slice(512, 512)
    assert isinstance(part, PhyrList)
    assert part[0] == Phyr(0x7200, 512)


@given(PFNS)
def test_the_list_is_the_run_length_encoding_of_the_frames(pfns):
    found = PhyrList.coalesce(Phyr(pfn << 12, 4096) for pfn in pfns)
    assert [(phyr.addr, phyr.len) for phyr in found] == [(pfn << 12, frames << 12) for pfn, frames in runs(pfns)]


@given(PFNS, st.integers(0, 170_000), st.integers(0, 170_000))
def test_a_slice_holds_the_bytes_that_it_says(pfns, start, nbytes):
    whole = PhyrList.coalesce(Phyr(pfn << 12, 4096) for pfn in pfns)
    sectors = [(pfn << 12) + at for pfn in pfns for at in range(0, 4096, 512)]
    part = whole.slice(start // 512 * 512, nbytes // 512 * 512)
    found = [addr + at for addr, length in part.vecs for at in range(0, length, 512)]
    assert found == sectors[start // 512 : start // 512 + nbytes // 512]
