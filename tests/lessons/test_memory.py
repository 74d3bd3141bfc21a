import re
from itertools import islice
from random import Random

import pytest

from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.free_area import UNMOVABLE, FreeArea
from labkit.kernel.mm.page_alloc.memblock import Memblock
from labkit.lessons import memory
from labkit.lessons.memory import BUDDY, HOT, JOINED, LEFT, MEMMAP, PAGEBLOCKS, RAM_END, empty_area, free_lists, take


def ask(maker, n=40):
    rng = Random(3)
    return [maker(rng) for _ in range(n)]


def numbers(each):
    return [int(word) for word in re.findall(r"\d+", each.text)]


def test_ram_of_16_gib_ends_at_17():
    assert RAM_END.check(Memblock(16 << 30), 17) == "Yes: 17."


def test_mm_1_a_gpu_of_96_gib_would_need_1536_mib_of_struct_pages():
    boot = Memblock(1 << 30)
    gpu = boot.find(boot.add_device("gpu0", 96 << 30, struct_pages=False))
    assert MEMMAP.check(gpu, 1536) == "Yes: 1536."


def test_vector_v4_is_what_the_notebook_shows():
    area = empty_area()
    area.free_one_page(4, 1)
    area.free_one_page(0, 2)
    assert free_lists(area) == {1: [4], 2: [0]}
    assert BUDDY.check(area, 4) == "Yes: 4."
    area.free_one_page(6, 1)
    assert free_lists(area) == {3: [0]}
    assert JOINED.check(area, 3) == "Yes: 3."
    assert take(area, 0) == 0
    assert free_lists(area) == {0: [1], 1: [2], 2: [4]}


def test_nothing_can_be_taken_where_nothing_is_free():
    assert take(empty_area(), 0) is None


def test_an_unmovable_page_makes_two_pageblocks_unmovable():
    buddy = Buddy(16 << 30)
    buddy.alloc_pages(0, UNMOVABLE)
    assert PAGEBLOCKS.check(buddy.info(), 2) == "Yes: 2."


def test_a_machine_of_4_gib_keeps_7061_pages_to_itself():
    small = Buddy(4 << 30)
    small.alloc_bulk(order=0, count=1 << 21)
    assert LEFT.check(small, 7061) == "Yes: 7061."


def test_the_hot_page_is_the_last_one():
    assert HOT.check("c", "c") == "Yes: c."
    assert HOT.check("c", "d") == "The answer is one of a, b, c, and 'd' is none."


def test_a_buddy_is_the_one_that_the_allocator_joins_with():
    for each in ask(memory._buddy_of):
        order, pfn = numbers(each)
        area = FreeArea(0, 1 << 21)
        area.virgin = area.end
        area.free_one_page(pfn, order)
        area.free_one_page(each.answer, order)
        assert free_lists(area) == {order + 1: [min(pfn, each.answer)]}


def test_a_joined_block_is_the_largest_aligned_one_that_is_all_free():
    found = set()
    for each in ask(memory._join, 100):
        *blocks, (pfn, order) = [tuple(map(int, pair)) for pair in re.findall(r"(\d+) \(order (\d)\)", each.text)]
        free = {at + i for at, size in (*blocks, (pfn, order)) for i in range(1 << size)}
        whole = [o for o in range(8) if {(pfn >> o << o) + i for i in range(1 << o)} <= free]
        assert each.answer == max(whole)
        found.add(each.answer - order)
    assert len(found) > 3


def test_a_block_of_order_h_split_for_order_o_leaves_as_many_as_lie_between():
    for each in ask(memory._split):
        high, order = numbers(each)
        assert each.answer == high - order


@pytest.mark.parametrize(("text", "mib"), [("8 GiB", 128), ("64 GiB", 1024), ("256 GiB", 4096)])
def test_a_64th_of_the_memory(text, mib):
    assert {each.answer for each in ask(memory._memmap_of, 200) if f" {text} " in each.text} == {mib}


def test_the_zone_is_told_by_the_address():
    for each in ask(memory._zone_of):
        addr = int(re.search(r"0x[0-9a-f]+", each.text)[0], 16)
        zone = "DMA" if addr < 16 << 20 else "DMA32" if addr < 4 << 30 else "Normal"
        assert each.answer == zone


def test_the_next_page_is_the_one_that_was_freed_last():
    for each in ask(memory._next_page):
        assert each.answer == numbers(each)[-1]


def test_a_class_with_one_seed_has_the_same_questions_on_every_machine():
    told = [(each.text, each.answer) for each in islice(memory.endless(7), 3)]
    assert told == [
        ("One block of order 4 is free. One of order 2 is taken: how many free blocks are there then?", 2),
        ("Free blocks begin at PFN 26 (order 0). Now 27 (order 0) is freed. Of which order is its block then?", 1),
        ("A device has 8 GiB of memory: how many MiB of struct pages would describe it?", 128),
    ]


def test_every_kind_of_question_comes_before_one_comes_twice():
    starts = {each.text[:9] for each in islice(memory.endless(5), 6)}
    assert len(starts) == 6
