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


def engine(*, system: str = "phyr", trace: bool = True) -> tuple[float, list[int], bytes]:
    """Return CPU seconds, the completion times, and the bytes that every job read last."""
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
        silence(machine)
    jobs = [machine.clock.job(job(buf, todo)) for buf, todo in zip(buffers, work(), strict=True)]
    gc.collect()
    begin = time.thread_time()
    machine.clock.run(until=machine.clock.all_of(jobs))
    spent = time.thread_time() - begin
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


def silence(machine: Machine) -> None:
    """Let no layer build or keep a record."""
    import labkit.hardware.nvme_ssd as ssd
    import labkit.kernel.block.blk_mq as blk_mq
    import labkit.kernel.dio as dio
    import labkit.kernel.drivers.nvme as nvme
    import labkit.kernel.syscall as syscall
    import labkit.trace.events as events

    for module in (ssd, blk_mq, dio, nvme, syscall):
        for name in events.RECORDS:
            if hasattr(module, name):
                setattr(module, name, _nothing)
    for part in (machine.device, machine.queue, machine.dio, machine.nvme):
        part._emit = _nothing


def speak() -> None:
    """Undo `silence`."""
    import importlib

    for name in ("hardware.nvme_ssd", "kernel.block.blk_mq", "kernel.dio", "kernel.drivers.nvme", "kernel.syscall"):
        module = importlib.import_module(f"labkit.{name}")
        for kind, record in importlib.import_module("labkit.trace.events").RECORDS.items():
            if hasattr(module, kind):
                setattr(module, kind, record)


def _nothing(*_args: object) -> None:
    return None


def main() -> None:
    rounds = []
    for _ in range(ROUNDS):
        slow, fast = naive(), engine()
        assert slow[1:] == fast[1:], "the two models disagree"
        quiet = engine(trace=False)
        speak()
        page = engine(system="page")
        rounds.append((fast[0], slow[0] / fast[0], fast[0] / quiet[0] - 1, page[0] / fast[0]))
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
