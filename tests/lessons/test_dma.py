import re
from itertools import islice
from random import Random

import pytest

from labkit.lessons import dma
from labkit.lessons.dma import (
    ADDRESSES,
    COPIED,
    KEPT,
    MASK,
    RANGES,
    ROUTE_NONE,
    ROUTE_SWITCH,
    SYNCED,
    TODAY,
    WINDOW,
    endless,
    read,
)
from labkit.machine import Machine


def run(**knobs):
    return Machine(folio="gpu", size="64 KiB", seed=7, **knobs).run()


@pytest.mark.parametrize(
    ("question", "knobs", "answer"),
    [
        (ADDRESSES, {"dma": "direct"}, 16),
        (RANGES, {"size": "1 MiB"}, 8),
        (WINDOW, {"kernel": "6.18"}, 10),
        (SYNCED, {"kernel": "7.3"}, 0),
        (KEPT, {"kernel": "6.12", "system": "page"}, 512),
        (COPIED, {"dma": "direct", "device_mask": 32, "ram": "8 GiB"}, 128),
        (ROUTE_SWITCH, {"folio": "gpu", "route": "switch"}, "bus"),
    ],
    ids=["addresses", "ranges", "window", "synced", "kept", "copied", "route"],
)
def test_each_question_of_the_notebook_has_its_answer(question, knobs, answer):
    assert question.check(read(**knobs), answer) == f"Yes: {answer}."


@pytest.mark.parametrize(
    ("question", "knobs", "answer"),
    [
        (ROUTE_NONE, {"route": "none"}, "EINVAL"),
        (TODAY, {"system": "page", "route": "switch"}, "EFAULT"),
        (MASK, {"dma": "direct", "device_mask": 32, "ram": "8 GiB"}, "EIO"),
    ],
    ids=["none", "today", "mask"],
)
def test_what_a_gpu_is_refused_has_its_errno(question, knobs, answer):
    assert question.check(run(**knobs), answer) == f"Yes: {answer}."


def test_strict_never_leaves_a_window_and_one_page_does_on_any_kernel():
    assert dma.window(read(kernel="6.18", iommu="strict")) == 0
    assert dma.window(read(kernel="7.3", size="4 KiB")) == 10


def test_acs_takes_the_request_up_to_the_root():
    assert dma.way(read(folio="gpu", route="switch", acs=True)) == "phys"
    assert dma.way(read(folio="gpu", route="none")) == "refused"


def test_a_write_is_copied_once_and_a_read_twice():
    rng = Random(3)
    for each in (dma._ask_copied(rng) for _ in range(6)):
        nbytes = int(re.search(r"of (\d+) KiB", each.text)[1])
        assert each.answer == nbytes * (1 if each.text.startswith("A write") else 2)


def test_ranges_are_pages_without_an_iommu_and_requests_with_one():
    rng = Random(3)
    for each in (dma._ask_ranges(rng) for _ in range(6)):
        nbytes = int(re.search(r"of (\d+) KiB", each.text)[1])
        assert each.answer == (nbytes // 4 if "without" in each.text else -(-nbytes // 128))


def test_a_scatterlist_keeps_32_bytes_a_segment_and_a_range_16_in_all():
    rng = Random(3)
    for each in (dma._ask_kept(rng) for _ in range(6)):
        pages = int(each.text.split()[0])
        assert each.answer == (32 * pages if "system page, Linux 6.12" in each.text else 16)


def test_a_seed_has_one_series_of_exercises():
    one, other = ([each.text for each in islice(endless(5), 5)] for _ in range(2))
    assert one == other
    assert len(set(one)) == 5
