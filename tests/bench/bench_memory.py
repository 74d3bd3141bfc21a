"""Ratios of physical memory, both sides measured in turn in one run: python tests/bench/bench_memory.py [--json].

Every figure is CPU time of this thread, the median of paired rounds. Nothing here passes or fails on time; that the two
sides take the same frames is checked. Only `pairs_per_cpu_second` is a number of this machine and not a ratio.
"""

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mmap
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.page_alloc.ageing import age
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.units import PAGE_SHIFT

GIB = 1 << 30
PAGES, PAIRS, ROUNDS = GIB >> PAGE_SHIFT, 100_000, 5


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of `work`, and what it returns."""
    gc.collect()
    begin = time.thread_time()
    result = work()
    return time.thread_time() - begin, result


def machine(fragmentation: float) -> Buddy:
    """Return 16 GiB of which the next GiB of pages is as old as `fragmentation` says."""
    buddy = Buddy(16 * GIB)
    age(buddy, fragmentation, 0, PAGES, 7)
    return buddy


def populate(fragmentation: float) -> float:
    """Return how many times longer a GiB takes page by page than in bulk."""
    one, many = machine(fragmentation), machine(fragmentation)
    slow, pages = timed(lambda: [one.alloc_pages(0) for _ in range(PAGES)])
    fast, (starts, frames) = timed(lambda: many.alloc_bulk(0, PAGES))
    runs = zip(starts.tolist(), frames.tolist(), strict=True)
    assert [pfn for start, n in runs for pfn in range(start, start + n)] == pages, "the two sides disagree"
    return slow / fast


def fault() -> float:
    """Return how many times longer 1 GiB takes to be mapped by a fault a page than by one populate."""
    one, many = (Mm(Frames(Buddy(16 * GIB), lambda _record: None, lambda: 0)) for _ in range(2))
    vmas = [mm.space.find_vma(do_mmap(mm, GIB)) for mm in (one, many)]
    slow, _ = timed(lambda: [handle_mm_fault(one, vmas[0], at, at + 1) for at in range(PAGES)])
    fast, _ = timed(lambda: handle_mm_fault(many, vmas[1], 0, PAGES))
    assert vmas[0].table.ptes == vmas[1].table.ptes, "the two sides disagree"
    return slow / fast


def give_back() -> float:
    """Return how many times longer it takes to free a fresh GiB page by page than in bulk."""
    one, many = Buddy(16 * GIB), Buddy(16 * GIB)
    runs, pages = many.alloc_bulk(0, PAGES), [one.alloc_pages(0) for _ in range(PAGES)]
    slow, _ = timed(lambda: [one.free_pages(pfn, 0) for pfn in pages])
    fast, _ = timed(lambda: many.free_bulk(*runs, 0))
    assert one.nr_free == many.nr_free == one.managed, "frames were lost"
    return slow / fast


def pairs() -> float:
    """Return the CPU seconds of PAIRS times alloc_pages(0), free_pages."""
    buddy = Buddy(GIB)

    def work() -> None:
        for _ in range(PAIRS):
            buddy.free_pages(buddy.alloc_pages(0), 0)

    return timed(work)[0]


def boot() -> float:
    """Return how many times longer 1 TiB boots than 4 GiB, which has as many zones; of 20 boots each."""
    large, _ = timed(lambda: [Buddy(1 << 40) for _ in range(20)])
    small, _ = timed(lambda: [Buddy(4 * GIB) for _ in range(20)])
    return large / small


def main() -> None:
    rounds = [(populate(0.0), populate(1.0), fault(), give_back(), PAIRS / pairs(), boot()) for _ in range(ROUNDS)]
    fresh, old, faults, freed, rate, booted = (statistics.median(column) for column in zip(*rounds, strict=True))
    figures = {
        "page_by_page_over_bulk_fresh": round(fresh),
        "page_by_page_over_bulk_aged": round(old, 1),
        "fault_by_fault_over_populate": round(faults),
        "free_page_by_page_over_bulk": round(freed),
        "boot_1_tib_over_4_gib": round(booted, 2),
        "pairs_per_cpu_second": round(rate),
        "rounds": ROUNDS,
    }
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value:>12,}{' (this machine)' if name == 'pairs_per_cpu_second' else ''}")


if __name__ == "__main__":
    main()
