"""A load meets a machine: every IO goes through the whole stack, and every byte is compared."""

from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

from labkit.errors import SyscallError
from labkit.hardware.clock import Job, Steps, Wait
from labkit.host.signals import taken
from labkit.machine.machine import Machine
from labkit.machine.workload.load import Load
from labkit.machine.workload.offered import Offered
from labkit.machine.workload.places import Places
from labkit.task import Task
from labkit.trace.latency import of_pairs, request_spans


class _Client:
    """One task of a load: its file, and buffers that no IO uses now."""

    def __init__(self, task: Task, number: int, path: str, nbytes: int) -> None:
        self.task, self.number, self.nbytes = task, number, nbytes
        self.fd = task.open(path, "O_RDWR|O_DIRECT")
        self.buffers: list[int] = []

    def buffer(self, folio: str) -> int:
        """Return a free buffer, or a new one."""
        return self.buffers.pop() if self.buffers else self.task.mmap(self.nbytes, folio)


class _Run:
    """One load on its way."""

    def __init__(self, machine: Machine, load: Load) -> None:
        disk = machine.volume.disk
        self.machine, self.load, self.clock = machine, load, machine.clock
        self.places = Places(load, disk.nbytes, disk.poke)
        self.clients = [_Client(machine.task(), number, disk.path, self.places.cell) for number in range(load.jobs)]
        self.left, self.jobs = load.count, list[Job]()
        self.times: list[tuple[int, int]] = []
        self.errors: Counter[str] = Counter()
        self.moved = self.wrong = 0

    def whole(self) -> Generator[Wait, Any, None]:
        """Offer everything, and wait until it is over."""
        if self.load.open:
            for number, gap in enumerate(self.load.gaps()):
                yield gap
                self._start(self._once(self.clients[number % len(self.clients)]))
        else:
            for client in self.clients * self.load.depth:
                self._start(self._loop(client))
        yield self.clock.all_of(self.jobs)

    def _start(self, work: Steps) -> None:
        self.jobs.append(self.clock.job(work))

    def _loop(self, client: _Client) -> Steps:
        """Do one IO after the other, until none is left."""
        while self.left:
            self.left -= 1
            yield from self._once(client)

    def _once(self, client: _Client) -> Steps:
        """Do one IO, and compare what it brought."""
        buf = client.buffer(self.machine.scenario.folio)
        pos, nbytes, write = self.places.take(client.number)
        data, start = self.places.fresh(nbytes), self.clock.now
        try:
            client.task.store(buf, data)
            done = yield from client.task.syscalls.rw(client.fd, buf, nbytes, pos, write=write)
        except SyscallError as bad:
            self.errors[bad.errno_name] += 1
            if write:
                self.places.forget(pos)
        else:
            self.times.append((start, self.clock.now))
            self._compare(client, buf, pos, done, data if write else None)
        finally:
            self.places.give(pos, write=write)
            client.buffers.append(buf)

    def _compare(self, client: _Client, buf: int, pos: int, done: int, data: bytes | None) -> None:
        """Note what was written, or compare what was read with the shadow."""
        self.moved += done
        shadow = self.places.shadow[pos : pos + done]
        if data is not None:
            shadow[:] = data[:done]
        elif client.task.load(buf, done) != bytes(shadow):
            self.wrong += 1

    def astray(self) -> int:
        """Return how many cells are not on the medium what they are in the shadow."""
        return sum(self._differs(cell) for cell in sorted(self.places.known))

    def _differs(self, cell: int) -> bool:
        size = self.places.cell
        at = cell * size
        return self.machine.volume.disk.peek(at, size) != bytes(self.places.shadow[at : at + size])


def offer(machine: Machine, load: Load | None = None, **how: Any) -> Offered:
    """Offer `load`, or the one that `how` describes, to `machine`, and return what came of it.

    An IO that fails is counted, and the others go on. Raises BadInput for a load that cannot be, SyscallError where
    no buffer is to be had.
    """
    run, before = _Run(machine, load or Load(**how)), len(machine.tracer.records)
    clock, job = machine.clock, machine.clock.job(run.whole())
    try:
        with taken(clock.interrupt):
            clock.run(until=job)
    finally:
        for each in _unfinished((job, *run.jobs)):
            each.abandon()
    records = machine.tracer.records[before:]
    wrong = run.wrong + run.astray()
    return Offered(
        run.load, machine.scenario, of_pairs(run.times), run.moved, request_spans(records), dict(run.errors), wrong
    )


def _unfinished(jobs: tuple[Job, ...]) -> Iterator[Job]:
    """Yield the jobs that somebody has to give up: all of them are over, but after Ctrl-C."""
    return (job for job in jobs if not job.triggered)
