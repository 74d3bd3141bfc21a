"""What a prediction costs, beside the machine and beside a loop: python tests/bench/bench_predict.py [--json].

`us_4k` and `ms_16m` are the CPU time of one prediction, of a page, and of 16 MiB in pages no two of which touch, by a
Predictor that is there already (`us_build` makes one). `machine_over_4k`: how many predictions a run of the same read
takes, on a machine (page, nvme) that is there already too; `loop_16m`: how many times as long the 16 MiB take as a loop
in Python that looks at each of their 4,096 pages once and counts those that touch. Medians of paired rounds.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from labkit.machine import Machine
from labkit.witness.capture import Capture, CapturedIo
from labkit.witness.predict import Predictor

ROUNDS, PAGES, ADDR = 15, 4096, 0x7F0000000000
LIMITS = {
    "logical_block_size": 512, "physical_block_size": 512, "max_sectors_kb": 1280, "max_hw_sectors_kb": 1280,
    "max_segments": 128, "max_segment_size": 65536, "dma_alignment": 511, "virt_boundary_mask": 0, "nr_requests": 128,
}  # fmt: skip


def capture(pages: int) -> Capture:
    """Return a read into `pages` pages, each of which lies two behind the one before."""
    return Capture.of({
        "format": "labkit-capture-1", "id": "bench", "kernel": "6.18", "limits": LIMITS,
        "device": {"path": "blkdev", "size_bytes": 1 << 30},
        "io": [{"api": "pread", "op": "r", "pos": 0, "iov": [[ADDR, pages << 12]]}],
        "layout": {"before": [[ADDR + (at << 12), (1 << 18) + 2 * at, 1] for at in range(pages)]},
    })  # fmt: skip


def spent(work: Callable[[], Any], times: int) -> float:
    """Return the CPU seconds of one `work`, of the best of three times `times`."""
    best = float("inf")
    for _ in range(3):
        begin = time.thread_time()
        for _ in range(times):
            work()
        best = min(best, (time.thread_time() - begin) / times)
    return best


def loop(rows: list[tuple[int, int, int]]) -> int:
    """Count the pages that touch the one before."""
    touch, end = 0, -1
    for _, pfn, pages in rows:
        touch += pfn == end
        end = pfn + pages
    return touch


def main() -> None:
    small, large = capture(1), capture(PAGES)
    one, many = Predictor(small), Predictor(large)
    ios: tuple[list[CapturedIo], list[CapturedIo]] = small.io, large.io
    with Machine(system="page", device="nvme", size=4096) as machine:
        task = machine.task()
        buf, fd = task.mmap("4 KiB"), task.open(f"/dev/{machine.disk}", "O_RDONLY|O_DIRECT")
        columns = [
            (
                spent(lambda: one.predict(ios[0]), 200), spent(lambda: Predictor(small), 200),
                spent(lambda: many.predict(ios[1]), 3), spent(lambda: task.pread(fd, buf, 4096, 0), 100),
                spent(lambda: loop(large.layout.before), 10),
            )
            for _ in range(ROUNDS)
        ]  # fmt: skip
    page, build, scattered, run, counted = (statistics.median(column) for column in zip(*columns, strict=True))
    figures = {
        "us_4k": round(page * 1e6, 1),
        "us_build": round(build * 1e6, 1),
        "machine_over_4k": round(run / page, 2),
        "ms_16m": round(scattered * 1e3, 2),
        "us_per_page_16m": round(scattered / PAGES * 1e6, 2),
        "loop_16m": round(scattered / counted, 1),
    }
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:34} {value:>12,}")


if __name__ == "__main__":
    main()
