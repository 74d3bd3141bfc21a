from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import InvariantError
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.phyr import PHYR_BYTES, Phyr, PhyrArray, PhyrList, phyr_merge, phyr_split, phyrs_of

BAR, OTHER, ALIEN = MemoryClass("mmio", "gpu0"), MemoryClass("mmio", "gpu1"), MemoryClass("foreign", "dom1")

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


def test_two_phyrs_merge_where_they_touch_and_are_of_one_class():
    assert phyr_merge(Phyr(0x7000, 4096), Phyr(0x8000, 512)) == Phyr(0x7000, 4608)
    assert phyr_merge(Phyr(0x7000, 4096, BAR), Phyr(0x8000, 512, BAR)) == Phyr(0x7000, 4608, BAR)
    assert phyr_merge(Phyr(0x7000, 4096), Phyr(0x9000, 512)) is None
    assert phyr_merge(Phyr(0x8000, 512), Phyr(0x7000, 4096)) is None


@pytest.mark.parametrize("other", [BAR, OTHER, ALIEN])
def test_two_classes_never_join_though_they_touch(other):
    pieces = [Phyr(0x7000, 4096), Phyr(0x8000, 4096, other), Phyr(0x9000, 4096, other), Phyr(0xA000, 4096)]
    assert phyr_merge(*pieces[:2]) is None
    found = PhyrList.coalesce(pieces)
    assert found == (Phyr(0x7000, 4096), Phyr(0x8000, 8192, other), Phyr(0xA000, 4096))
    assert found.classes == ((RAM, 4096), (other, 8192), (RAM, 4096))
    assert found.cls == RAM


def test_two_providers_never_join():
    assert len(PhyrList.coalesce([Phyr(0x7000, 4096, BAR), Phyr(0x8000, 4096, OTHER)])) == 2


def test_a_split_gives_both_halves_their_class():
    assert phyr_split(Phyr(0x7000, 4096, BAR), 512) == (Phyr(0x7000, 512, BAR), Phyr(0x7200, 3584, BAR))
    assert phyr_merge(*phyr_split(Phyr(0x7000, 4096, BAR), 512)) == Phyr(0x7000, 4096, BAR)


@pytest.mark.parametrize("at", [-1, 0, 4096, 5000])
def test_a_split_leaves_no_half_empty(at):
    with pytest.raises(InvariantError, match=f"phyr: a split at {at} leaves nothing of 4096 bytes"):
        phyr_split(Phyr(0x7000, 4096), at)


def test_a_slice_keeps_the_class_of_each_byte():
    mixed = PhyrList([Phyr(0x7000, 4096), Phyr(0x8000, 4096, BAR), Phyr(0x21000, 4096)])
    assert mixed.slice(3584, 5120) == (Phyr(0x7E00, 512), Phyr(0x8000, 4096, BAR), Phyr(0x21000, 512))
    assert mixed.slice(4096, 512) == (Phyr(0x8000, 512, BAR),)
    assert mixed.slice(4096, 512).cls == BAR


def test_nothing_is_of_no_class_and_stands_for_ram():
    assert (phyrs().classes, phyrs().cls) == ((), RAM)
    assert phyrs((0x7000, 512)).classes == ((RAM, 512),)


def scattered(count, cls=RAM):
    return phyrs_of(np.arange(count) << 13, np.full(count, 4096), cls)


def test_a_short_list_is_a_tuple_and_a_long_one_stands_in_columns():
    assert type(scattered(32)) is PhyrList
    assert type(scattered(33)) is PhyrArray
    assert type(phyrs_of(np.arange(1000) << 12, np.full(1000, 4096))) is PhyrList
    assert phyrs_of(np.arange(1000) << 12, np.full(1000, 4096)) == (Phyr(0, 4096000),)
    assert phyrs_of([0x7000, 0x8000], [4096, 512], BAR) == (Phyr(0x7000, 4608, BAR),)
    assert phyrs_of([], []) == ()


def test_a_long_list_answers_as_a_short_one_does():
    long = scattered(100, BAR)
    assert (len(long), long.nbytes, long.struct_pages, long.cls) == (100, 409600, 0, BAR)
    assert (long[0], long[-1]) == (Phyr(0, 4096, BAR), Phyr(99 << 13, 4096, BAR))
    assert long[2:4] == (Phyr(0x4000, 4096, BAR), Phyr(0x6000, 4096, BAR))
    assert long.classes == ((BAR, 409600),)
    assert long == PhyrList(long)
    assert hash(long) == hash(PhyrList(long))
    assert long != scattered(100)
    assert long != PhyrList(scattered(100))
    assert long.slice(0, 409600) is long


def test_a_slice_of_a_long_list_is_short_where_few_ranges_are_left():
    long = scattered(100)
    assert type(long.slice(0, 8192)) is PhyrList
    assert long.slice(3584, 1024) == (Phyr(3584, 512), Phyr(8192, 512))
    assert type(long.slice(512, 200000)) is PhyrArray
    assert np.shares_memory(long.slice(4096, 200704).vecs.rows, long.vecs.rows)


PIECES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 2), st.sampled_from([RAM, RAM, BAR, OTHER, ALIEN])), max_size=120
)


@settings(max_examples=2500)
@given(PIECES, st.integers(0, 400_000), st.integers(0, 400_000))
def test_short_and_long_lists_agree_and_are_minimal(pieces, start, nbytes):
    pieces = [Phyr(pfn << 12, pages << 12, cls) for pfn, pages, cls in pieces]
    short = PhyrList.coalesce(pieces)
    found = phyrs_of(*map(list, zip(*pieces, strict=True))) if pieces else phyrs_of([], [])
    assert found == short
    assert short == found
    assert (found.nbytes, found.classes, tuple(found.vecs)) == (short.nbytes, short.classes, short.vecs)
    assert (type(found) is PhyrList) == (len(short) <= 32)
    assert all(phyr_merge(*two) is None for two in pairwise(found))
    part = found.slice(start, nbytes)
    assert part == short.slice(start, nbytes)
    assert part.classes == short.slice(start, nbytes).classes
