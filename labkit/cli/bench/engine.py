"""4 KiB random reads at queue depth 32, the whole stack with the trace on, against the naive model of the same."""

import errno
from random import Random

from labkit.cli.bench.naive import Drive, NaiveMachine
from labkit.cli.bench.ratio import Ratio, Tick, cpu_seconds
from labkit.errors import InvariantError
from labkit.hardware.clock import Steps
from labkit.hardware.media.flash import Flash
from labkit.hardware.nvme.controller import NvmeCtrl
from labkit.machine import Machine
from labkit.task import Task

JOBS, IOS, SEEDS = 32, 8_000, 12
_PAGE, _THINK = 4096, 20_000
Work = list[list[tuple[int, int]]]
"""Of each job, the (ns to think, byte of the device) of its IOs."""
Came = tuple[float, list[int], bytes]
"""CPU seconds, when each IO ended, and what every job read last."""


def work(nbytes: int, jobs: int = JOBS, ios: int = IOS, seed: int = 1) -> Work:
    """Return work on a device of `nbytes`."""
    chance, pages = Random(seed), nbytes // _PAGE  # noqa: S311 - a seeded row
    return [
        [(chance.randrange(_THINK), chance.randrange(pages) * _PAGE) for _ in range(ios // jobs)] for _ in range(jobs)
    ]


def machine_of(system: str = "phyr") -> Machine:
    """Return the machine of the comparison."""
    return Machine(system=system, iommu="lazy", fragmentation=1, seed=7)


def engine(todo: Work, machine: Machine) -> Came:
    """Do `todo` on the machine of the lab."""
    task, clock = machine.task(), machine.clock
    buffers = [task.mmap(_PAGE) for _ in todo]
    for buf in buffers:
        task.store(buf, bytes(_PAGE))
    fd = task.open(machine.volume.disk.path, "O_RDONLY|O_DIRECT")
    fill(machine, todo)
    done: list[int] = []
    jobs = [clock.job(_job(task, fd, buf, each, done)) for buf, each in zip(buffers, todo, strict=True)]
    with cpu_seconds() as spent:
        clock.run(until=clock.all_of(jobs))
    return spent[0], done, b"".join(task.load(buf, _PAGE) for buf in buffers)


def naive(todo: Work, machine: Machine) -> Came:
    """Do the same in the other style, with the numbers and limits of `machine`."""
    fill(machine, todo)
    other = NaiveMachine(machine.cpu, drive_of(machine), machine.queue.limits, list(range(len(todo))), _media(machine))
    for index, each in enumerate(todo):
        other.env.process(other.job(index, each))
    with cpu_seconds() as spent:
        other.env.run()
    return spent[0], other.done, bytes(other.ram[: len(todo) * _PAGE])


def drive_of(machine: Machine) -> Drive:
    """Return the drive of `machine` as the naive model takes it."""
    flash, ctrl = machine.medium, machine.device
    if not isinstance(flash, Flash) or not isinstance(ctrl, NvmeCtrl):
        raise InvariantError("bench", machine.disk, "is no flash behind NVMe", errno.ENODEV)
    dies = flash.profile.channels * flash.profile.dies
    profile = ctrl.profile
    return Drive(dies, flash.profile.read_ns, profile.overhead_ns, profile.link_bytes_per_ns, profile.queue_depth)


def fill(machine: Machine, todo: Work) -> None:
    """Mark every block of `todo` on the medium with its own position."""
    for each in todo:
        for _, pos in each:
            machine.device.poke(pos, pos.to_bytes(8, "little"))


def compare(rounds: int, tick: Tick) -> Ratio:
    """Measure both in turn. Raises InvariantError where completion times or bytes are never the same."""
    seed, pairs = agreeing(tick), []
    for _ in range(rounds):
        theirs, ours = both(seed, tick)
        pairs.append((IOS / ours[0], IOS / theirs[0]))
    name = "4 KiB random reads at queue depth 32, traced"
    return Ratio.of(name, pairs, "a SimPy process for each IO", "IO/CPU s", 10)


def both(seed: int, tick: Tick) -> tuple[Came, Came]:
    """Return what the naive model makes of the work of `seed`, and what the engine does."""
    with machine_of() as machine, machine_of() as other:
        todo = work(machine.device.nbytes, seed=seed)
        tick("naive model")
        theirs = naive(todo, other)
        tick("engine")
        return theirs, engine(todo, machine)


def agreeing(tick: Tick) -> int:
    """Return the first seed whose work ends at the same ns in both models, with the same bytes.

    With others two IOs meet at one resource in one ns, and who goes first is luck. Raises InvariantError for none.
    """
    for seed in range(1, SEEDS + 1):
        theirs, ours = both(seed, tick)
        if theirs[1:] == ours[1:]:
            return seed
    raise InvariantError("bench", f"{IOS} reads", "never end at the same ns in both models", errno.EIO)


def _job(task: Task, fd: int, buf: int, todo: list[tuple[int, int]], done: list[int]) -> Steps:
    clock, read = task.syscalls.env, task.syscalls.rw
    for think, pos in todo:
        yield think
        yield from read(fd, buf, _PAGE, pos, write=False)
        done.append(clock.now)


def _media(machine: Machine) -> memoryview:
    """Return the bytes of the medium."""
    drive_of(machine)
    return machine.medium.media  # type: ignore[union-attr]  # drive_of has looked
