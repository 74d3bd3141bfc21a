"""Ratios of the engine, both sides measured in turn in one run: python tests/bench/bench_engine.py [--json].

Every figure is CPU time of this thread, the median of paired rounds. Nothing here passes or fails on time; that the two
sides agree (completion times, bytes) is checked, and stops the benchmark if they do not.
"""

import gc
import json
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from naive import NaiveMachine

from labkit.hardware.nvme_ssd import Profile
from labkit.machine import DATA, Machine

JOBS, IOS, ROUNDS = 32, 8_000, 5


def work() -> list[list[tuple[int, int]]]:
    """Return, for each job, the (ns to think, position) of its IOs.

    The thinking keeps two IOs from meeting at one resource in the same ns, where their order would be luck.
    """
    rng = random.Random(7)
    return [[(rng.randrange(20_000), rng.randrange(1 << 20) * 4096) for _ in range(IOS // JOBS)] for _ in range(JOBS)]


def engine(
    *, system: str = "phyr", trace: bool = True, keep: list[tuple] | None = None
) -> tuple[float, list[int], bytes]:
    """Return CPU seconds, the completion times, and the bytes that every job read last; `keep` gets the records."""
    machine = Machine(system=system, iommu="lazy", fragmentation=1, seed=7)
    task = machine.task()
    buffers = [task.mmap("4 KiB") for _ in range(JOBS)]
    for buf in buffers:
        task.store(buf, bytes(4096))
    fd = task.open("/dev/nvme0n1", "O_RDONLY|O_DIRECT")
    fill(machine.device.media)
    done: list[int] = []

    def job(buf, todo):
        for think, pos in todo:
            yield think
            yield from task.syscalls.rw(fd, buf, 4096, pos, write=False)
            done.append(machine.clock.now)

    if not trace:
        for part in (machine.device, machine.queue, machine.dio, machine.nvme, task.syscalls):
            part._emit = forget
    jobs = [machine.clock.job(job(buf, todo)) for buf, todo in zip(buffers, work(), strict=True)]
    gc.collect()
    begin = time.thread_time()
    machine.clock.run(until=machine.clock.all_of(jobs))
    spent = time.thread_time() - begin
    if keep is not None:
        keep[:] = machine.tracer.raw
    return spent, done, b"".join(task.load(buf, 4096) for buf in buffers)


def naive() -> tuple[float, list[int], bytes]:
    """The same, in the other style."""
    machine = Machine(iommu="lazy", fragmentation=1, seed=7)
    media = machine.device.media
    fill(media)
    profile = Profile.load(DATA / "nvme.toml")
    other = NaiveMachine(machine.cpu, profile, machine.queue.limits, list(range(JOBS)), media)
    for index, todo in enumerate(work()):
        other.env.process(other.job(index, todo))
    gc.collect()
    begin = time.thread_time()
    other.env.run()
    return time.thread_time() - begin, other.done, bytes(other.ram[: JOBS * 4096])


def fill(media: memoryview) -> None:
    for todo in work():
        for _think, pos in todo:
            media[pos : pos + 8] = pos.to_bytes(8, "little")


def forget(_raw: tuple) -> None:
    """Keep no record."""


def making(raws: list[tuple]) -> float:
    """Return the CPU seconds that it takes to make `raws` and hand them to somebody who keeps none."""
    begin = time.thread_time()
    for raw in raws:
        forget((*raw,))
    made = time.thread_time()
    for _raw in raws:
        pass
    return (made - begin) - (time.thread_time() - made)


def main() -> None:
    rounds, raws = [], []
    for _ in range(ROUNDS):
        slow, fast = naive(), engine(keep=raws)
        assert slow[1:] == fast[1:], "the two models disagree"
        quiet = engine(trace=False)[0] - making(raws)
        page = engine(system="page")
        rounds.append((fast[0], slow[0] / fast[0], fast[0] / quiet - 1, page[0] / fast[0]))
    fast, ratio, overhead, page = (statistics.median(column) for column in zip(*rounds, strict=True))
    figures = {
        "reads_per_cpu_second": round(IOS / fast),
        "naive_over_engine": round(ratio, 2),
        "trace_overhead": round(overhead, 3),
        "page_over_phyr": round(page, 2),
        "ios": IOS,
        "rounds": ROUNDS,
    }
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:>12,}")


if __name__ == "__main__":
    main()
