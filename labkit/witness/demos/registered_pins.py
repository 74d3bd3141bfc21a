"""A registered buffer takes no pins for an IO: counted by the kernel, and by the model (REG-1, REG-4, MM-17)."""

import errno
from collections.abc import Callable, Iterable

from labkit.errors import NotAllowed, SyscallError
from labkit.host.calls import direct
from labkit.host.calls.ring import Entry, Ring
from labkit.host.disk.scratch import Scratch
from labkit.host.memory import vmstat
from labkit.host.memory.own_pages import OwnPages
from labkit.machine import Machine
from labkit.trace.meters import pins
from labkit.units import PAGE_SIZE
from labkit.witness.demos.demo import Answers, Demo, Seen

_PAGES, _TIMES = 16, 5
_NBYTES = _PAGES * PAGE_SIZE
_STEPS = ("a read of 64 KiB by address", "registering the 64 KiB", "5 reads by READ_FIXED", "unregistering")
_ROUNDS, _MOST_ROUNDS, _SURE = 20, 200, 5
"""Rounds at least and at most, and in how many the least count has to be seen: what others pin meanwhile only adds."""
Count = tuple[int, int]


def kernel() -> Seen:
    """Count the pages that each step pins and lets go of. Raises NotAllowed, SyscallError."""
    seen: list[list[Count]] = []
    with Scratch(_NBYTES) as file, OwnPages(_PAGES) as memory:
        for at in range(_MOST_ROUNDS):
            seen.append(_counted(file, memory))
            if at + 1 >= _ROUNDS and (least := _least(seen)) is not None:
                return Seen(_answers(least), ("step", "pages pinned", "pages let go of"), _rows(least))
    rule = "do not stand still: other processes pin memory, too; let them end"
    raise NotAllowed("vmstat", "nr_foll_pin_acquired and _released", rule, errno.EBUSY)


def model() -> Answers:
    """Return the same of the simulated machine."""
    machine = Machine(ram="64 MiB", system="page")
    task = machine.task()
    buf, fd, ring = task.mmap(_NBYTES, populate=True), task.open("/dev/nvme0n1"), task.io_uring()

    def fixed() -> None:
        for _ in range(_TIMES):
            ring.read(fd, buf, _NBYTES, buf_index=0)
            _whole([cqe.res for cqe in ring.submit()])

    def now() -> Count:
        found = pins(machine.trace.records)
        return found.taken, found.released

    return _answers(_steps(
        now,
        (
            lambda: _whole([task.pread(fd, buf, _NBYTES)]),
            lambda: ring.register_buffers([(buf, _NBYTES)]),
            fixed,
            ring.unregister_buffers,
        ),
    ))  # fmt: skip


def _counted(file: Scratch, memory: OwnPages) -> list[Count]:
    """Return what each step added to the counters of this kernel, others' pins among it."""
    with Ring(1) as ring:
        fixed = ring.enter(file.fd, [Entry(False, memory.address, _NBYTES, 0, 0)])
        read = direct.call("pread", file.fd, [(memory.address, _NBYTES)], 0)
        return _steps(
            _now,
            (
                lambda: _whole([read()]),
                lambda: ring.register_memory([(memory.address, _NBYTES)]),
                lambda: _whole([fixed()[0] for _ in range(_TIMES)]),
                ring.unregister_memory,
            ),
        )


def _whole(moved: list[int]) -> None:
    """Raise SyscallError unless each read moved all of its bytes: what fails would pin nothing, either."""
    for nbytes in moved:
        if nbytes != _NBYTES:
            raise SyscallError("read", f"{_NBYTES} B", f"come as {nbytes}", -nbytes if nbytes < 0 else errno.EIO)


def _least(seen: list[list[Count]]) -> list[Count] | None:
    """Return the least counts of each step in all rounds; None while one of them was not seen often enough."""
    columns = [column for step in zip(*seen, strict=True) for column in zip(*step, strict=True)]
    least = [min(column) for column in columns]
    sure = all(column.count(count) >= _SURE for column, count in zip(columns, least, strict=True))
    return list(zip(least[::2], least[1::2], strict=True)) if sure else None


def _now() -> Count:
    """Return the counters of this kernel. Raises NotAllowed without root: batches tell nothing."""
    found = vmstat.pins()
    if not found.exact:
        rule = "counts in batches of about 30 pages, unless root asks it to count them now: run as root"
        raise NotAllowed("vmstat", "nr_foll_pin_acquired", rule, errno.EPERM)
    return found.acquired, found.released


def _steps(now: Callable[[], Count], steps: Iterable[Callable[[], object]]) -> list[Count]:
    """Return by how much each step moves what `now` tells."""
    moved, before = list[Count](), now()
    for step in steps:
        step()
        after = now()
        moved.append((after[0] - before[0], after[1] - before[1]))
        before = after
    return moved


def _answers(counts: list[Count]) -> Answers:
    return {f"pages pinned, let go of by {step}": f"{a}, {b}" for step, (a, b) in zip(_STEPS, counts, strict=True)}


def _rows(counts: list[Count]) -> list[list[int | str]]:
    return [[step, *count] for step, count in zip(_STEPS, counts, strict=True)]


DEMO = Demo(
    "registered-pins",
    "Registered buffers take no pins for an IO",
    "64 KiB are read into 16 pages: how many pins does that take, and how many when the buffer was registered before?",
    "Reads a temporary file of the lab's own; a registration ends with its ring. The counters are the whole machine's: "
    "the least of several rounds is taken, since other processes only add.",
    "Pins are paid for once, at the registration. A phyr that is kept is the same bargain: found once, used often.",
    kernel,
    model,
)
