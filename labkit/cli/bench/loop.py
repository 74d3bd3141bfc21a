"""A real loop device over a tmpfs: this process, which knows where each IO lies in physical memory, against fio."""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labkit.cli.bench.ratio import Ratio, Tick
from labkit.errors import NotAllowed
from labkit.host.calls import fio
from labkit.host.calls.fio import FioJob
from labkit.host.calls.ring import Ring
from labkit.host.disk.loopdev import LoopDevice
from labkit.host.memory.arena import arena
from labkit.host.memory.pagemap import Pagemap
from labkit.units import human_bytes

DEVICE_BYTES = 256 << 20
TMPFS = Path("/dev/shm")  # noqa: S108 - where Linux has a tmpfs for everybody; the device makes a directory of its own
JOBS = (
    FioJob("psync", 4 << 10),
    FioJob("psync", 1 << 20),
    FioJob("io_uring", 4 << 10, 32),
    FioJob("io_uring", 4 << 10, 32, fixed=True),
    FioJob("io_uring", 1 << 20, 32, fixed=True),
)
"""What fio does; this process registers its buffers, whether fio does or not."""
_MIB, _STEP, _ROUND = 1 << 20, 64, 4096
Positions = NDArray[np.int64]


@contextmanager
def device() -> Iterator[LoopDevice]:
    """Give a loop device whose file is in memory, every block written. Raises NotAllowed where none can be had."""
    if not TMPFS.is_dir():
        raise NotAllowed("bench", str(TMPFS), "is not there: mount a tmpfs on it", errno.ENOENT)
    with LoopDevice.attach(DEVICE_BYTES, directory=TMPFS) as found:
        for pos in range(0, DEVICE_BYTES, _MIB):
            found.poke(pos, bytes([pos // _MIB % 255 + 1]) * _MIB)
        yield found


def compare(rounds: int, seconds: int, tick: Tick) -> list[Ratio]:
    """Measure each job in turn, ours and fio's. Raises NotAllowed without root, loop devices or fio."""
    against = fio.version()
    with device() as found:
        return [_compare(job, found, rounds, seconds, tick, against) for job in JOBS]


def _compare(job: FioJob, found: LoopDevice, rounds: int, seconds: int, tick: Tick, against: str) -> Ratio:
    ours, pairs = psync if job.engine == "psync" else uring, list[tuple[float, float]]()
    name = f"{job.engine}, {human_bytes(job.nbytes)} reads at queue depth {job.depth}"
    for _ in range(rounds):
        tick(name)
        pairs.append((ours(job, found, seconds), fio.iops(job, found.path, seconds)))
    against += ", buffers and files registered" if job.fixed else ""
    return Ratio.of(f"{name}, translated", pairs, against, "IO/s", 1.0)


def psync(job: FioJob, found: LoopDevice, seconds: float) -> float:
    """Return the IOs a second of preadv, one after the other; the ranges of the next ones are looked up together."""
    memory = arena(max(job.nbytes * 2, _STEP * job.nbytes if job.nbytes < _MIB else 0))
    memory[:] = bytes(memory.nbytes)
    views = [[memory[at : at + job.nbytes]] for at in range(0, memory.nbytes, job.nbytes)]
    whereabouts, places = _translator(job, Pagemap(memory)), np.arange(len(views))
    read, done, begin = found.preadv, 0, time.perf_counter()
    for positions in cycle(_positions(job, len(views))):
        whereabouts(places)
        for view, pos in zip(views, positions.tolist(), strict=True):
            read(view, pos)
        done += len(views)
        if (now := time.perf_counter()) - begin > seconds:
            break
    return done / (now - begin)


def uring(job: FioJob, found: LoopDevice, seconds: float) -> float:
    """Return the IOs a second of a ring whose buffers are registered, and so cannot move; errors as Ring.stream."""
    memory = arena(job.depth * job.nbytes)
    memory[:] = bytes(memory.nbytes)
    views = [memory[at : at + job.nbytes] for at in range(0, memory.nbytes, job.nbytes)]
    positions = cycle(_positions(job, job.depth))
    with Ring(job.depth) as ring:
        ring.register(found.fileno(), views)
        ring.prepare(found.fileno(), views)
        whereabouts, begin = _translator(job, Pagemap(memory)), time.perf_counter()

        def more(places: Positions) -> Positions | None:
            whereabouts(places)
            return next(positions) if time.perf_counter() - begin < seconds else None

        return ring.stream(more) / (time.perf_counter() - begin)


def _translator(job: FioJob, pages: Pagemap) -> Callable[[Positions], object]:
    """Return what finds the physical ranges of the buffers number `places`, each of one page, or of many."""
    if job.nbytes <= 4 << 10:
        return lambda places: pages.phys(places * job.nbytes)
    return lambda places: [pages.ranges(place * job.nbytes, job.nbytes) for place in places.tolist()]


def _positions(job: FioJob, count: int) -> list[Positions]:
    """Return rows of `count` random positions on the device."""
    chance = np.random.default_rng(1)
    return list(chance.integers(0, DEVICE_BYTES // job.nbytes, (_ROUND, count)) * job.nbytes)
