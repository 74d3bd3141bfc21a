"""What a range costs below GUP, from the file to the device and back: python tests/bench/bench_chain.py [--json].

One read of 1 GiB into 262,144 separate frames, against one of 16 MiB into 4,096: `cost_ratio` is the CPU time of a
range in the large one over that in the small one, the median of paired rounds; up to 1 says that nothing is searched
from its start, and nothing copied whole. `trace_bytes_per_request` is what the records of a request keep alive besides
the list of the IO itself (tracemalloc).
"""

import gc
import json
import statistics
import sys
import time
import tracemalloc

import numpy as np

from labkit.kernel.block.bio import Bio
from labkit.machine import Machine
from labkit.scatter.phyr import Phyrs, phyrs_of

SMALL, LARGE, ROUNDS = 4096, 262_144, 5
FRAMES = 4096
"""The frames that all ranges share, every other one, so that memory is touched no more by a long list."""


def scattered(ranges: int) -> Phyrs:
    """Return `ranges` pages, no two neighbours of which touch."""
    return phyrs_of((1 << 30) + (np.arange(ranges) % FRAMES << 13), np.full(ranges, 4096))


def read(ranges: int, iommu: str) -> tuple[float, Machine, Phyrs]:
    """Let a machine read `ranges` pages from its device; return the CPU seconds, the machine and the list."""
    machine, payload = Machine(ram="8 GiB", iommu=iommu, fragmentation=0), scattered(ranges)

    def job():
        bio = Bio(machine.clock, 1, 1, 0, payload, write=False)
        yield from machine.queue.submit_bio(bio)
        yield bio.done
        assert not bio.error

    gc.collect()
    begin = time.thread_time()
    machine.clock.run(until=machine.clock.job(job()))
    return time.thread_time() - begin, machine, payload


def kept(iommu: str) -> float:
    """Return the bytes that the records of one request keep."""
    tracemalloc.start()
    _, machine, payload = read(65_536, iommu)
    requests = sum(raw[0] == "DmaMap" for raw in machine.tracer.raw)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    machine.tracer.raw.clear()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert payload.nbytes == 65_536 * 4096, "the list is there still, and so not among what was counted"
    return (before - after) / requests


def main() -> None:
    figures: dict[str, float] = {"ranges": LARGE, "rounds": ROUNDS}
    for iommu in ("off", "strict"):
        rounds = []
        for _ in range(ROUNDS):
            small = min(read(SMALL, iommu)[0] for _ in range(5)) / SMALL
            large = read(LARGE, iommu)[0] / LARGE
            rounds.append((large / small, large * LARGE))
        ratio, spent = (statistics.median(column) for column in zip(*rounds, strict=True))
        figures[f"cost_ratio_{iommu}"] = round(ratio, 2)
        figures[f"seconds_per_gib_{iommu}"] = round(spent, 2)
        figures[f"trace_bytes_per_request_{iommu}"] = round(kept(iommu))
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:34} {value:>12,}")


if __name__ == "__main__":
    main()
