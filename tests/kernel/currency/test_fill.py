"""Pages become vectors, by the rules of each kernel, over whatever the pages are."""

import errno
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.kernel.currency.fill import (
    after,
    fill,
    fixed_table,
    fold,
    fold_folios,
    npages,
    pinned_twice,
    trim,
    unaligned,
)  # fmt: skip
from labkit.kernel.version import KERNELS
from labkit.scatter.payload import cut

PAGE = 4096
BASE = 0x7F00_0000_0000
GLUING = ["6.1", "6.12", "6.18"]


class Got(NamedTuple):
    runs: tuple
    nr: int


class Map:
    """A page table: page i of the user's memory lies in frame `pfns[i]`, whose folio is of order `orders[i]`."""

    def __init__(self, folios, most=99, broken=10**9):
        self.pfns, self.order_of, self.most, self.broken, self.asked = [], {}, most, broken, []
        for head, order, first, count in folios:
            for pfn in range(head + first, head + first + count):
                self.pfns.append(pfn)
                self.order_of[pfn] = order

    def extract(self, addr, nr):
        """Take up to `most` pages at a time; page number `broken` cannot be had."""
        first = (addr - BASE) // PAGE
        nr = min(nr, self.most, self.broken - first, len(self.pfns) - first)
        if nr < 1:
            raise SyscallError("gup", f"addr={addr:#x}", "is not there", errno.EFAULT)
        self.asked.append(nr)
        runs = []
        for pfn in self.pfns[first : first + nr]:
            if runs and sum(runs[-1]) == pfn * PAGE:
                runs[-1] = (runs[-1][0], runs[-1][1] + PAGE)
            else:
                runs.append((pfn * PAGE, PAGE))
        return Got(tuple(runs), nr)

    def folio_end(self, addr):
        size = PAGE << self.order_of[addr // PAGE]
        return addr // size * size + size

    def translate(self, pieces):
        """Return the physical address of every run of bytes inside a page, one after the other."""
        out = []
        for addr, nbytes in pieces:
            at = addr
            while at < addr + nbytes:
                take = min(PAGE - at % PAGE, addr + nbytes - at)
                out.append((self.pfns[(at - BASE) // PAGE] * PAGE + at % PAGE, take))
                at += take
        return out


def joined(ranges):
    out = []
    for addr, nbytes in ranges:
        if out and sum(out[-1]) == addr:
            out[-1] = (out[-1][0], out[-1][1] + nbytes)
        else:
            out.append((addr, nbytes))
    return out


@st.composite
def maps(draw):
    """Folios of orders 0 to 3, each mapped in whole or in part; some of them are neighbours."""
    folios, head = [], 64
    for order in draw(st.lists(st.integers(0, 3), min_size=1, max_size=40)):
        head = -(-head >> order << order) if order else head
        head = (head + (1 << order) - 1) >> order << order
        first = draw(st.integers(0, (1 << order) - 1))
        folios.append((head, order, first, draw(st.integers(1, (1 << order) - first))))
        head += (1 << order) + draw(st.sampled_from([0, 0, 1, 5]))
    if draw(st.booleans()):
        folios.reverse()
    return Map(folios, draw(st.sampled_from([1, 3, 16, 99])))


@st.composite
def worlds(draw):
    """A map, and iovecs somewhere in it, in any order, each of a multiple of 4 bytes."""
    user = draw(maps())
    total, pieces = len(user.pfns) * PAGE, []
    for _ in range(draw(st.integers(1, 12))):
        start = draw(st.integers(0, total // 4 - 1)) * 4
        pieces.append((BASE + start, draw(st.integers(1, min(total - start, 9 * PAGE) // 4)) * 4))
    return user, pieces


def fill_all(user, pieces, rules, lbs=512):
    """Fill bio after bio until all is taken or nothing comes; return them, trimmed to whole blocks."""
    start, total, bios = 0, sum(n for _, n in pieces), []
    while start < total:
        filled = fill(pieces, start, total - start, rules, 3, user.extract, user.folio_end)
        kept, whole = trim(filled, lbs)
        if not whole:
            break
        bios.append((filled, list(kept), whole))
        start += whole
    return bios, start


@given(world=worlds(), kernel=st.sampled_from([*KERNELS]))
@settings(deadline=None, max_examples=600)
def test_invariant_1_every_byte_is_the_one_that_the_page_table_names_and_in_order(world, kernel):
    user, pieces = world
    bios, done = fill_all(user, pieces, KERNELS[kernel])
    total = sum(n for _, n in pieces)
    assert done == total // 512 * 512
    vecs = [vec for _, kept, _ in bios for vec in kept]
    assert sum(n for _, n in vecs) == done
    assert joined(vecs) == joined(cut(user.translate(pieces), 0, done))


@given(world=worlds(), kernel=st.sampled_from([*KERNELS]), lbs=st.sampled_from([512, 4096]))
@settings(deadline=None, max_examples=400)
def test_rules_r3_r4_r5_a_bio_has_256_vectors_at_most_glued_or_inside_a_folio_and_whole_blocks(world, kernel, lbs):
    user, pieces = world
    rules = KERNELS[kernel]
    for filled, kept, whole in fill_all(user, pieces, rules, lbs)[0]:
        assert len(filled.vecs) <= 256
        assert whole % lbs == 0
        assert sum(n for _, n in kept) == whole
        assert filled.nbytes - whole < lbs
        if rules.folio_bound:
            assert all(addr + n <= user.folio_end(addr) for addr, n in filled.vecs)
        else:
            assert all(sum(one) != other[0] for one, other in pairwise(filled.vecs))
        assert filled.pages(filled.nbytes) == sum(each.got.nr for each in filled.taken)


@given(world=worlds(), kernel=st.sampled_from([*KERNELS]), broken=st.integers(0, 30))
@settings(deadline=None, max_examples=300)
def test_rule_r6_a_page_that_cannot_be_had_ends_the_bio_and_at_the_first_it_is_raised(world, kernel, broken):
    user, pieces = world
    user.broken = broken
    total = sum(n for _, n in pieces)
    reach = 0
    for addr, nbytes in pieces:
        end = BASE + broken * PAGE
        reach += min(nbytes, max(0, end - addr))
        if addr + nbytes > end:
            break
    if not reach:
        with pytest.raises(SyscallError, match="EFAULT"):
            fill(pieces, 0, total, KERNELS[kernel], 3, user.extract, user.folio_end)
    else:
        filled = fill(pieces, 0, total, KERNELS[kernel], 3, user.extract, user.folio_end)
        assert filled.nbytes == reach
        assert joined(filled.vecs) == joined(cut(user.translate(cut(pieces, 0, reach)), 0, reach))


def scattered(n):
    return Map([(100 + 2 * i, 0, 0, 1) for i in range(n)])


@pytest.mark.parametrize("kernel", KERNELS)
def test_rule_r4_the_256th_vector_is_the_last(kernel):
    user = scattered(300)
    bios, _ = fill_all(user, [(BASE, 300 * PAGE)], KERNELS[kernel])
    assert [len(kept) for _, kept, _ in bios] == [256, 44]


@pytest.mark.parametrize("kernel", GLUING)
def test_rule_r3_adjacent_pieces_of_one_page_are_one_vector(kernel):
    (bio,), _ = fill_all(Map([(100, 0, 0, 1)]), [(BASE + at, 512) for at in range(0, 4096, 512)], KERNELS[kernel])
    assert bio[1] == [(100 * PAGE, 4096)]


def test_rule_r3_of_73_each_piece_opens_a_vector():
    (bio,), _ = fill_all(Map([(100, 0, 0, 1)]), [(BASE + at, 512) for at in range(0, 4096, 512)], KERNELS["7.3"])
    assert bio[1] == [(100 * PAGE + at, 512) for at in range(0, 4096, 512)]


def test_worked_vector_v1_three_vectors_in_73_and_two_before():
    user = Map([(100, 0, 0, 1), (101, 0, 0, 1), (300, 0, 0, 1)])
    shapes = {kernel: fill_all(user, [(BASE + 512, 8704)], KERNELS[kernel])[0][0][1] for kernel in KERNELS}
    assert shapes["7.3"] == [(0x64200, 3584), (0x65000, 4096), (0x12C000, 1024)]
    assert shapes["6.1"] == shapes["6.12"] == shapes["6.18"] == [(0x64200, 7680), (0x12C000, 1024)]


@pytest.mark.parametrize(("pieces", "raises"), [
    ([(BASE + 2, 512)], True), ([(BASE, 510)], True), ([(BASE + 4, 512)], False),
    ([(BASE, 512), (BASE + 514, 512)], True),
])  # fmt: skip
def test_rule_iter5_only_73_looks_at_alignment_where_pages_are_taken_and_wherever_it_comes_to_be(pieces, raises):
    for kernel, rules in KERNELS.items():
        user = Map([(100, 0, 0, 1)])
        total = sum(n for _, n in pieces)
        if raises and kernel == "7.3":
            with pytest.raises(SyscallError, match=r"is not a multiple of 4 \(O_DIRECT, ITER-5\) \(-EINVAL\)"):
                fill(pieces, 0, total, rules, 3, user.extract, user.folio_end)
        else:
            assert fill(pieces, 0, total, rules, 3, user.extract, user.folio_end).nbytes == total


def test_rule_iter5_the_sentence_names_what_is_off_the_mask_the_address_or_the_length():
    assert str(unaligned("gup", BASE + 1, 4096, 511)).startswith(f"gup: buf={BASE + 1:#x} is not a multiple of 512 ")
    assert str(unaligned("gup", BASE, 5000, 511)).startswith(f"gup: length=5000 at buf={BASE:#x} is not a multiple of")


def test_what_lies_behind_the_first_bytes_of_iovecs():
    pieces = [(0x1000, 100), (0x5000, 50), (0x9000, 10)]
    assert after(pieces, 0) == pieces
    assert after(pieces, 99) == [(0x1063, 1), (0x5000, 50), (0x9000, 10)]
    assert after(pieces, 100) == [(0x5000, 50), (0x9000, 10)]
    assert after(pieces, 155) == [(0x9005, 5)]
    assert after(pieces, 160) == []


def test_rule_r7_pages_are_counted_iovec_by_iovec():
    assert npages([(0, 4096), (4095, 2), (512, 512), (512, 4096)]) == 1 + 2 + 1 + 2


def test_a_fold_goes_on_where_the_last_one_ended_and_folios_do_not():
    glued, bound = [(0x1000, 0x1000)], [(0x1000, 0x1000)]
    fold(glued, ((0x2000, 0x3000),), 0, 0x2800)
    fold_folios(bound, ((0x2000, 0x3000),), 0, 0x2800, lambda addr: (addr & -0x2000) + 0x2000)
    assert glued == [(0x1000, 0x3800)]
    assert bound == [(0x1000, 0x1000), (0x2000, 0x2000), (0x4000, 0x800)]


@pytest.mark.parametrize(
    ("folios", "skip", "nbytes", "expected"),
    [
        ([(16, 2, 0, 4), (32, 2, 0, 4)], 0, 8 * PAGE, [(16, 4), (32, 4)]),
        ([(16, 2, 3, 1), (32, 2, 0, 4)], 0, 5 * PAGE, [(19, 1), (32, 4)]),
        ([(16, 2, 0, 4), (32, 2, 0, 2)], 0, 6 * PAGE, [(16, 4), (32, 2)]),
        ([(16, 2, 0, 3), (32, 2, 0, 4)], 0, 7 * PAGE, None),
        ([(16, 2, 0, 4), (33, 0, 0, 1)], 0, 5 * PAGE, None),
        ([(16, 2, 0, 4), (32, 3, 0, 8)], 0, 12 * PAGE, None),
        ([(100, 0, 0, 1), (101, 0, 0, 1)], 0, 2 * PAGE, None),
    ],
)
def test_rule_r17_a_registered_buffer_has_a_vector_for_each_page_or_for_each_folio(folios, skip, nbytes, expected):
    user = Map(folios)
    runs = user.extract(BASE, len(user.pfns)).runs

    def folio(addr):
        size = PAGE << user.order_of[addr // PAGE]
        return addr // size * size, size

    each_page = tuple((pfn * PAGE, PAGE) for pfn in user.pfns)
    folded = each_page if expected is None else tuple((pfn * PAGE, n * PAGE) for pfn, n in expected)
    assert fixed_table(runs, skip, nbytes, folio, KERNELS["7.3"]) == folded
    assert fixed_table(runs, skip, nbytes, folio, KERNELS["6.1"]) == each_page


def test_rule_r17_a_buffer_may_begin_and_end_inside_a_page():
    table = fixed_table(((100 * PAGE, 2 * PAGE),), 512, 4096, lambda addr: (addr, PAGE), KERNELS["7.3"])
    assert table == ((100 * PAGE + 512, 3584), (101 * PAGE, 512))


@pytest.mark.parametrize(
    ("vecs", "sizes", "expected"),
    [
        (((0, 8192),), [8192], ((0, 8192),)),
        (((0, 8192),), [4096, 4096], ((0, 8192),)),
        (((0, 8192),), [512, 7680], ((0, 512), (512, 7680))),
        (((0, 8192),), [4608, 512, 3072], ((0, 4608), (4608, 512), (5120, 3072))),
        (((512, 1024), (8192, 512)), [1024, 512], ((512, 1024), (8192, 512))),
        (((512, 1024), (8192, 512)), [512, 768, 256], ((512, 512), (1024, 512), (8192, 256), (8448, 256))),
        (((0, 1024),), [512, 4096], ((0, 512), (512, 512))),
    ],
)
def test_a_vector_is_told_in_two_where_one_page_is_pinned_twice(vecs, sizes, expected):
    assert pinned_twice(vecs, sizes) == expected
