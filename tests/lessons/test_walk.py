import re
from itertools import pairwise
from random import Random

import pytest

from labkit.lessons import walk
from labkit.lessons.walk import (
    ATOMICS,
    CHUNKS,
    LEAF,
    ORDER,
    PHYRS,
    READS,
    SHORT,
    STORES,
    both,
    fsdax_readonly,
    refusal,
    steps,
)
from labkit.machine import Machine


def buffer(folio, nbytes=2 << 20):
    machine = Machine(fragmentation=1, seed=7)
    task = machine.task()
    buf = task.mmap(nbytes, folio)
    task.store(buf, bytes(nbytes))
    return task, buf


def ask(maker, n=40):
    rng = Random(3)
    return [maker(rng) for _ in range(n)]


def numbers(text):
    return [int(word) for word in re.findall(r"\d+", text)]


def test_mm_9_small_entries_of_a_large_folio_take_an_atomic_operation_each():
    task, buf = buffer("64 KiB")
    found = both(task, buf, "2 MiB")
    assert ATOMICS.check(found, 512) == "Yes: 512."
    assert PHYRS.check(found, 32) == "Yes: 32."


def test_mm_9_a_leaf_takes_one_and_stores_512_pointers():
    task, buf = buffer("2 MiB")
    found = both(task, buf, "2 MiB")
    assert LEAF.check(found, 1) == "Yes: 1."
    assert STORES.check(found, 512) == "Yes: 512."
    assert READS.check(task.mm.walk(buf), 3) == "Yes: 3."


def test_both_let_go_of_everything():
    task, buf = buffer("64 KiB", 64 << 10)
    before = [folio[:4] for folio in task.mm.folios.states()]
    both(task, buf + 512, 8704)
    assert [folio[:4] for folio in task.mm.folios.states()] == before


def test_what_memory_is_comes_before_what_one_may_do():
    error = refusal(fsdax_readonly(), write=True, longterm=True)
    assert ORDER.check(error, "EOPNOTSUPP") == "Yes: EOPNOTSUPP."
    assert ORDER.check(refusal(fsdax_readonly(), write=True), "EFAULT") == "Yes: EFAULT."
    assert refusal(fsdax_readonly(), write=False) is None


def test_a_short_list_ends_before_the_page_that_is_gone():
    task, buf = buffer("4 KiB", 64 << 10)
    task.munmap(buf + 4 * 4096, 4096)
    found = walk.pin_user_pages(task.mm, buf, 16, write=True)
    assert SHORT.check(found, 4) == "Yes: 4."


@pytest.mark.parametrize(("chunk", "count"), [(16, 64), (512, 2), (0, 1)])
def test_each_chunk_is_a_pin_and_a_bio(chunk, count):
    machine = Machine(size="4 MiB", chunk=chunk, fragmentation=1, seed=7)
    machine.run()
    taken = steps(machine.trace)
    assert (taken.pins, taken.bios) == (count, count)
    assert CHUNKS.check(taken, count) == f"Yes: {count}."


def test_an_index_is_nine_bits_of_the_address():
    for each in ask(walk._index):
        addr = int(re.search(r"0x[0-9a-f]+", each.text)[0], 16)
        at = {"PGD": 39, "PUD": 30, "PMD": 21, "PTE": 12}[each.text.split(" table")[0].split()[-1]]
        assert each.answer == addr // 2**at % 512


def test_frames_that_follow_each_other_are_one_phyr():
    for each in ask(walk._coalesce):
        pfns = numbers(each.text.split("frames")[1])
        assert each.answer == 1 + sum(b != a + 1 for a, b in pairwise(pfns))


@pytest.mark.parametrize("maker", [walk._atomics, walk._stores])
def test_entries_and_pages_are_counted_by_hand(maker):
    for each in ask(maker, 12):
        size, folio = re.search(r"pins (\d+ ...) in folios of (\d+ ...)", each.text).groups()
        pages = {"256 KiB": 64, "2 MiB": 512, "4 MiB": 1024}[size]
        leaf = folio == "2 MiB" and maker is walk._atomics
        assert each.answer == (-(-pages // 512) if leaf else pages)


def test_the_order_of_refusals_by_hand():
    for each in ask(walk._order):
        gpu, secret, dax = (word in each.text for word in ("GPU", "secret", "fsdax"))
        readonly = "r--" in each.text and "writes to" in each.text
        later = "EFAULT" if secret or readonly else "none"
        assert each.answer == ("EFAULT" if gpu else "EOPNOTSUPP" if dax and "long-term" in each.text else later)


def test_what_comes_before_the_hole_is_what_is_returned():
    for each in ask(walk._short, 10):
        _, gone, _ = numbers(each.text)
        assert each.answer == gone
