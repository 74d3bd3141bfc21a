"""Ratios of pinning, both sides measured in turn in one run: python tests/bench/bench_gup.py [--json].

Every figure is CPU time of this thread, the median of paired rounds. Nothing here passes or fails on time; that both
sides find the same ranges is checked, and stops the benchmark if they do not.
"""

import gc
import json
import statistics
import sys
import time

import numpy as np

from labkit.kernel.mm.fault.mmap import do_mmap
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.frames.ledger import PinLedger
from labkit.kernel.mm.gup.phyrs import get_user_phyrs
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_PRESENT, PAGE_RW, PAGE_USER
from labkit.scatter.payload import ranges_of, run_length
from labkit.scatter.phyr import Phyr, PhyrList
from labkit.scatter.range_array import RangeArray

PAGE, PAGES, ROUNDS = 4096, 1 << 18, 5
NEED = PAGE_PRESENT | PAGE_RW | PAGE_USER
LAYOUTS = {"contiguous": PAGES, "64 KiB": 16, "4 KiB": 1}
"""Pages of a run of neighbours; no two runs touch."""


def world(run: int) -> tuple[Mm, int]:
    """Map 1 GiB of 4 KiB entries onto runs of `run` pages; the folios behind them are of no matter here."""
    mm = Mm(Frames(Buddy(64 << 20), forget, lambda: 0))
    addr = do_mmap(mm, PAGES * PAGE)
    heads = np.random.default_rng(7).permutation(PAGES // run).astype(np.int64) * 2 * run * PAGE + (1 << 30)
    mm.space.vmas[0].table.set_runs(0, RangeArray(heads, np.full(len(heads), run * PAGE)), NEED)
    return mm, addr


def forget(_raw: tuple) -> None:
    """Keep no record."""


def loop_phyrs(mm: Mm, addr: int, nbytes: int) -> list[tuple[int, int]]:
    """Find the ranges page by page, as a kernel's loop reads: look up, check, join or begin anew."""
    out: list[tuple[int, int]] = []
    end = addr + nbytes
    vma = mm.space.find_vma(addr)
    ptes, start = vma.table.ptes, vma.start
    while addr < end:
        pte = ptes[(addr - start) >> 12]
        if pte & NEED != NEED:
            raise ValueError(hex(addr))
        pa = (pte & ADDR_MASK) + (addr & 4095)
        take = min(PAGE - (addr & 4095), end - addr)
        if out and out[-1][0] + out[-1][1] == pa:
            out[-1] = (out[-1][0], out[-1][1] + take)
        else:
            out.append((pa, take))
        addr += take
    return out


def loop_pages(mm: Mm, addr: int, nbytes: int) -> list[tuple[int, int]]:
    """Find a page for each page, count it, and fold pages into vectors: what today's path does, as a loop."""
    vma, refs, pfns = mm.space.find_vma(addr), {}, []
    ptes, first = vma.table.ptes, (addr - vma.start) >> 12
    for pte in ptes[first : first + (nbytes >> 12)]:
        if pte & NEED != NEED:
            raise ValueError(hex(addr))
        pfn = (pte & ADDR_MASK) >> 12
        refs[pfn] = refs.get(pfn, 1) + 1024
        pfns.append(pfn)
    vecs: list[tuple[int, int]] = []
    for pfn in pfns:
        if vecs and sum(vecs[-1]) == pfn << 12:
            vecs[-1] = (vecs[-1][0], vecs[-1][1] + PAGE)
        else:
            vecs.append((pfn << 12, PAGE))
    for pfn in pfns:
        refs[pfn] -= 1024
    return vecs


def loop_ranges(mm: Mm, addr: int, nbytes: int) -> list[tuple[int, int]]:
    """The same in ranges: no page is made or counted; the ledger has one entry for each range."""
    vma = mm.space.find_vma(addr)
    ptes, first, out = vma.table.ptes, (addr - vma.start) >> 12, []
    for pte in ptes[first : first + (nbytes >> 12)]:
        if pte & NEED != NEED:
            raise ValueError(hex(addr))
        pa = pte & ADDR_MASK
        if out and sum(out[-1]) == pa:
            out[-1] = (out[-1][0], out[-1][1] + PAGE)
        else:
            out.append((pa, PAGE))
    ledger = dict.fromkeys(out, 1)
    for each in out:
        del ledger[each]
    return out


def loop_small(mm: Mm, addr: int, nbytes: int) -> PhyrList:
    """What get_user_phyrs must do and no more, page by page: the mapping, the right, the pages, the list."""
    vma = mm.space.find_vma(addr)
    if vma is None or addr + nbytes > vma.end or "w" not in vma.prot:
        raise ValueError(hex(addr))
    return PhyrList([Phyr(start, length) for start, length in loop_phyrs(mm, addr, nbytes)])


def numpy_pages(words: np.ndarray, refs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """loop_pages with numpy: an array of pages, a count for each, and the fold."""
    if bool(((words & np.uint64(NEED)) != NEED).any()):
        raise ValueError
    pfns = ((words & np.uint64(ADDR_MASK)) >> np.uint64(12)).view(np.int64)
    np.add.at(refs, pfns, np.int32(1024))
    heads = np.concatenate(([0], np.flatnonzero(np.diff(pfns) != 1) + 1))
    lens = np.diff(np.concatenate((heads, [len(pfns)]))) << 12
    vecs = pfns[heads] << 12, lens
    np.add.at(refs, pfns, np.int32(-1024))
    return vecs


def numpy_ranges(words: np.ndarray, ledger: PinLedger, *, asked: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """loop_ranges with numpy: one difference of words, and the ledger of the engine.

    `asked`: somebody asks the ledger for a frame meanwhile, as munmap and fork do; it sorts its ranges then.
    """
    if bool(((words & np.uint64(NEED)) != NEED).any()):
        raise ValueError
    heads = np.concatenate(([0], np.flatnonzero(np.diff(words) != PAGE) + 1))
    lens = np.diff(np.concatenate((heads, [len(words)]))) << 12
    vecs = (words[heads] & np.uint64(ADDR_MASK)).view(np.int64), lens
    token = ledger.pin(1, 0, "range", ranges_of(*vecs))
    if asked and not ledger.held_mask(vecs[0][:1] >> 12, PAGE)[0]:
        raise ValueError
    ledger.unpin(token)
    return vecs


def spent(call, *args, repeat: int = 1, **named) -> float:
    """Return the CPU seconds of the fastest of three tries of `repeat` calls, for one call."""
    best = float("inf")
    for _ in range(3):
        gc.collect()
        begin = time.thread_time()
        for _ in range(repeat):
            call(*args, **named)
        best = min(best, (time.thread_time() - begin) / repeat)
    return best


def whole(figures: dict[str, float]) -> None:
    """1 GiB: the engine against the per-page loop; a cached query against a walk; pages against ranges."""
    for name, run in LAYOUTS.items():
        mm, addr = world(run)
        table, nbytes, rounds = mm.space.vmas[0].table, PAGES * PAGE, []
        ledger = PinLedger()
        words, refs = np.frombuffer(table.ptes, np.uint64), np.zeros((2 << 18) + (1 << 19), np.int32)
        assert tuple(get_user_phyrs(mm, addr, nbytes, write=True).phyrs.vecs) == tuple(loop_phyrs(mm, addr, nbytes))
        assert run_length(loop_pages(mm, addr, nbytes)) == run_length(loop_ranges(mm, addr, nbytes))
        assert all(map(np.array_equal, numpy_pages(words, refs), numpy_ranges(words, ledger)))
        for _ in range(ROUNDS):
            engine = spent(get_user_phyrs, mm, addr, nbytes, write=True, repeat=5)
            cold = spent(_cold, table, mm, addr, nbytes, repeat=3)
            loop = spent(loop_phyrs, mm, addr, nbytes)
            walk = spent(table._walk, 0, PAGES, repeat=3)
            query = spent(table.runs, 0, PAGES, repeat=20)
            slow = spent(loop_pages, mm, addr, nbytes) / spent(loop_ranges, mm, addr, nbytes)
            paged = spent(numpy_pages, words, refs, repeat=3)
            asked = paged / spent(numpy_ranges, words, ledger, repeat=3)
            fast = paged / spent(numpy_ranges, words, ledger, asked=False, repeat=3)
            rounds.append((loop / engine, loop / cold, walk / query, slow, fast, asked))
        columns = [round(statistics.median(column), 2) for column in zip(*rounds, strict=True)]
        for what, value in zip(
            ("loop_over_engine", "loop_over_first_walk", "walk_over_cached_query", "pages_over_ranges_in_loops",
             "pages_over_ranges_in_numpy", "pages_over_ranges_in_numpy_once_asked"), columns, strict=True,
        ):  # fmt: skip
            figures[f"{what}, {name}"] = value


def _cold(table, mm, addr, nbytes):
    """A walk that finds nothing remembered."""
    table._cache = None
    return get_user_phyrs(mm, addr, nbytes, write=True)


def small(figures: dict[str, float]) -> None:
    """1 to 64 pages, every page a range of its own, and neighbours: the slowest against the loop."""
    worst = 0.0
    for run in (PAGES, 1):
        mm, addr = world(run)
        for pages in (1, 2, 3, 4, 8, 16, 32, 33, 48, 64):
            nbytes, at = pages * PAGE - 512, addr + 512
            assert get_user_phyrs(mm, at, nbytes, write=True).phyrs.vecs == tuple(loop_phyrs(mm, at, nbytes))
            ratios = [
                spent(get_user_phyrs, mm, at, nbytes, write=True, repeat=1000)
                / spent(loop_small, mm, at, nbytes, repeat=1000)
                for _ in range(ROUNDS)
            ]
            worst = max(worst, statistics.median(ratios))
            figures[f"engine_over_loop, {pages} pages of {'neighbours' if run > 1 else 'their own'}"] = round(
                statistics.median(ratios), 2
            )
    figures["engine_over_loop, worst of 1 to 64 pages"] = round(worst, 2)


def main() -> None:
    figures: dict[str, float] = {}
    whole(figures)
    small(figures)
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:52} {value:>12,}")


if __name__ == "__main__":
    main()
