import numpy as np
import pytest

from labkit.errors import NotAllowed
from labkit.host.memory import kpageflags
from labkit.host.memory.kpageflags import KPF, large_folios, names, sizes

HEAD, TAIL, ANON, THP = (1 << KPF.index(name) for name in ("COMPOUND_HEAD", "COMPOUND_TAIL", "ANON", "THP"))


def row(pfn, pages=1):
    return (0x7F00_0000_0000, pfn, pages)


@pytest.fixture
def memory(monkeypatch, tmp_path):
    """Make a memory of `frames` frames, in which folios of (head, pages) lie."""

    def make(frames, *folios):
        words = np.full(frames, ANON, np.uint64)
        for head, pages in folios:
            words[head : head + pages] = ANON | THP | TAIL
            words[head] = ANON | THP | HEAD
        (tmp_path / "kpageflags").write_bytes(words.tobytes())
        monkeypatch.setattr(kpageflags, "_PATH", str(tmp_path / "kpageflags"))

    return make


def heads(rows):
    return [folio[:2] for folio in large_folios(rows)]


def test_neighbours_are_folios_of_their_own(memory):
    memory(64, (8, 4), (12, 4), (16, 16))
    rows = [row(8, 24)]
    assert large_folios(rows) == [(8, 4, [12, 15, 22]), (12, 4, [12, 15, 22]), (16, 16, [12, 15, 22])]
    assert sizes(rows) == (4 * 4096, 16 * 4096)


def test_a_row_inside_a_folio_tells_the_whole_of_it(memory):
    memory(64, (16, 16))
    assert heads([row(21)]) == heads([row(31)]) == heads([row(16)]) == [(16, 16)]
    assert sizes([row(21, 3)]) == (16 * 4096,)


def test_a_row_over_the_end_of_a_folio_tells_it_and_the_small_pages_behind(memory):
    memory(64, (16, 16))
    assert heads([row(30, 4)]) == [(16, 16)]
    assert sizes([row(30, 4)]) == (4096, 16 * 4096)


def test_what_lies_between_two_rows_and_is_not_touched_is_not_told(memory):
    memory(64, (8, 4), (12, 4), (16, 4))
    assert heads([row(8, 4), row(16, 4)]) == [(8, 4), (16, 4)]
    assert heads([row(7), row(20)]) == []
    assert sizes([row(7), row(20)]) == (4096,)


def test_rows_in_any_order_twice_and_not_there_are_each_told_once(memory):
    memory(4096, (1024, 512), (2048, 4), (2600, 2))
    rows = [row(2600, 2), row(-1, 7), row(1100, 2), row(2048, 4), row(1300, 5), row(1100, 2), row(1500, 100)]
    assert heads(rows) == [(1024, 512), (2048, 4), (2600, 2)]
    assert sizes(rows) == (4096, 2 * 4096, 4 * 4096, 512 * 4096)


def test_many_pages_far_apart_in_one_huge_page_are_one_folio(memory):
    memory(2048, (512, 512))
    assert heads([row(512 + at, 1) for at in (500, 3, 90, 200, 300, 400)]) == [(512, 512)]


def test_a_folio_of_a_gigabyte_is_told_whole(memory):
    memory((1 << 19) + 9, (1 << 18, 1 << 18))
    assert heads([row((1 << 18) + 100_000)]) == [(1 << 18, 1 << 18)]


def test_a_folio_at_the_very_end_of_memory_ends_there(memory):
    memory(64, (60, 4))
    assert heads([row(63)]) == heads([row(60, 4)]) == [(60, 4)]


def test_what_is_not_in_memory_is_of_no_folio(memory):
    memory(64, (8, 4))
    for rows in ([], [row(-1, 9)]):
        assert (large_folios(rows), sizes(rows)) == ([], ())


def test_folios_agree_with_a_walk_of_every_frame(memory):
    chance = np.random.default_rng(7)
    orders = chance.integers(0, 10, 400)
    folios, end = [], 0
    for order in orders.tolist():
        head = -(-end // (1 << order)) << order
        folios.append((head, 1 << order))
        end = head + (1 << order)
    memory(end, *[folio for folio in folios if folio[1] > 1])
    for _ in range(20):
        rows = [
            row(int(at), int(n))
            for at, n in zip(chance.integers(0, end - 99, 30), chance.integers(1, 99, 30), strict=True)
        ]
        touched = {pfn for _, first, pages in rows for pfn in range(first, first + pages)}
        told = [(head, pages) for head, pages in folios if pages > 1 and touched & set(range(head, head + pages))]
        assert heads(rows) == told
        inside = {pfn for head, pages in told for pfn in range(head, head + pages)}
        assert sizes(rows) == tuple(
            sorted({pages * 4096 for _, pages in told} | ({4096} if touched - inside else set()))
        )


def test_the_bits_have_the_names_of_the_kernel_but_for_those_of_its_developers():
    assert names([0, 11, 12, 15, 22, 26, 34]) == ["LOCKED", "MMAP", "ANON", "COMPOUND_HEAD", "THP", "PGTABLE"]


def test_who_may_not_read_it_is_told_to_be_root(monkeypatch):
    monkeypatch.setattr(kpageflags, "_PATH", "/proc/self/no-such-file")
    with pytest.raises(NotAllowed, match="cannot be read, No such file or directory: run as root"):
        large_folios([row(7)])
