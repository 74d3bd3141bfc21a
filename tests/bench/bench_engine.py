"""What the trace costs, and what `page` costs more than `phyr`: python tests/bench/bench_engine.py [--json].

`labkit bench` measures the engine against other models; this looks at the engine alone, with the same work. Every
figure is CPU time of this thread, the median of paired rounds. Nothing here passes or fails on time.
"""

import json
import statistics
import sys
import time

from labkit.cli.bench.engine import IOS, engine, machine_of, work

ROUNDS = 5


def run(*, system: str = "phyr", trace: bool = True) -> tuple[float, list[tuple]]:
    """Return CPU seconds, and the records."""
    with machine_of(system) as machine:
        if not trace:
            for part in (machine.device, machine.queue, machine.dio, machine.nvme, machine.maps):
                part._emit = forget
            machine.dio.emit = forget
        spent, _done, _bytes = engine(work(machine.device.nbytes), machine)
        return spent, machine.tracer.raw


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
    rounds = []
    for _ in range(ROUNDS):
        fast, raws = run()
        quiet = run(trace=False)[0] - making(raws)
        rounds.append((fast, fast / quiet - 1, run(system="page")[0] / fast))
    fast, overhead, page = (statistics.median(column) for column in zip(*rounds, strict=True))
    figures = {
        "reads_per_cpu_second": round(IOS / fast),
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
