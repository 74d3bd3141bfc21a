"""A private trace instance: events of this machine are switched on, recorded, and handed over in the order of time."""

import contextlib
import errno
import os
import re
import secrets
from operator import itemgetter
from typing import NamedTuple, Self

from labkit.errors import BadInput, LabkitError, NotAllowed, SyscallError
from labkit.host.undo import Undo, exits
from labkit.host.watch.tracefs.formats import Event, Format
from labkit.host.watch.tracefs.ring_buffer import SubBuffer

_EVENT = re.compile(r"\w+:\w+")
_STATS = re.compile(rb"entries: (\d+)\noverrun: (\d+)\ncommit overrun: (\d+)\n(?s:.*)dropped events: (\d+)\n")
_STATS_BYTES = 512
_CONFIG = {
    "ext4": "EXT4_FS",
    "io_uring": "IO_URING",
    "iomap": "FS_IOMAP",
    "nvme": "NVME_CORE",
    "syscalls": "FTRACE_SYSCALLS",
    "xfs": "XFS_FS",
}
_OFF = ("overwrite", "stacktrace", "userstacktrace")
"""Options, which a new instance takes from the whole machine. Nothing is to be overwritten: what does not fit is
dropped, and counted one by one; what is there is a whole beginning (TRACE-4). Nobody asks for stacks."""


class _Cpu(NamedTuple):
    """One CPU's part of the ring buffer: its number, and two open files."""

    number: int
    pipe: int
    stats: int


class Instance:
    """A trace instance of labkit's own, `labkit-<pid>-<hex>`, with the clock CLOCK_MONOTONIC; a context manager.

    As long as it is open the kernel lets nobody remove it. Two may be open at once: each records what it asked for.
    """

    def __init__(self, undo: Undo, *, kib: int = 4096) -> None:
        """Make it, with room for `kib` KiB of records on each CPU. Raises NotAllowed, SyscallError."""
        self._undo, self._formats, self._lost = undo, dict[int, Format](), dict[int, int]()
        self._fds: list[int] = []
        self._kib = kib
        self.path = undo.make_instance(f"labkit-{os.getpid()}-{secrets.token_hex(4)}")
        exits.hold(self)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        for name, value in (("tracing_on", "0"), ("trace_clock", "mono"), ("buffer_size_kb", str(self._kib))):
            self._put(name, value)
        for name in _OFF:
            if (self.path / "options" / name).exists():
                self._put(f"options/{name}", "0")
        self._on = self._open("tracing_on", os.O_WRONLY)
        self._sub_buffer = SubBuffer(self._get("events/header_page"))
        numbers = sorted(int(path.name.removeprefix("cpu")) for path in (self.path / "per_cpu").iterdir())
        self._cpus = [
            _Cpu(n, self._open(f"per_cpu/cpu{n}/trace_pipe_raw"), self._open(f"per_cpu/cpu{n}/stats")) for n in numbers
        ]

    def enable(self, event: str, where: str = "") -> None:
        """Record `event`, "group:name", and only those for which the filter `where` holds ("dev == 7340032").

        `dev` is major << 20 | minor there, as in the fields (TRACE-5). Raises NotAllowed for an event that this kernel
        does not have, BadInput for a filter that it does not take.
        """
        if not _EVENT.fullmatch(event):
            raise BadInput("tracefs", f"event {event!r}", "is not of the form group:name", errno.EINVAL)
        place = _place(event)
        if self.path.is_dir() and not (self.path / place).is_dir():
            option = _CONFIG.get(event[: event.index(":")], "EVENT_TRACING")
            rule = f"is no tracepoint of this kernel: take a newer one, or one with CONFIG_{option}"
            raise NotAllowed("tracefs", event, rule, errno.ENOENT)
        known = Format(event, self._get(f"{place}/format"))
        self._filter(event, f"{place}/filter", where)
        self._formats[known.number] = known
        self._put(f"{place}/enable", "1")

    def disable(self, event: str) -> None:
        """Record `event` no more; what was recorded of it is there still. Raises SyscallError."""
        self._put(f"{_place(event)}/enable", "0")

    def _filter(self, event: str, place: str, where: str) -> None:
        """Set the filter of `event`, or none. Raises BadInput with what the kernel says."""
        try:
            self._put(place, where or "0")
        except SyscallError as bad:
            if bad.errno != errno.EINVAL:
                raise
            said = self._get(place).strip().splitlines()[-1]
            raise BadInput("tracefs", f"{event} if {where!r}", f"is no filter: {said}", errno.EINVAL) from None

    def start(self) -> None:
        """Record from now on. Raises SyscallError."""
        self._switch(b"1")

    def stop(self) -> None:
        """Record nothing from now on. Raises SyscallError."""
        self._switch(b"0")

    def _switch(self, value: bytes) -> None:
        if not self._fds:
            raise self._gone()
        os.write(self._on, value)

    def drain(self) -> list[Event]:
        """Return all that was recorded and not returned before, in the order of time, on a CPU in that of the buffer.

        Stop first: what comes meanwhile may be left for the next time. Raises SyscallError: ENOBUFS where events were
        lost since the last time, with how many (what was left of them is thrown away), EBADMSG for one that nobody
        asked for here, ENODEV after `close`.
        """
        if not self._fds:
            raise self._gone()
        events, lost = list[Event](), 0
        for cpu in self._cpus:
            unread, dropped = self._counted(cpu)
            some, missed = self._read(cpu, unread)
            events += some
            lost += dropped + missed
        if lost:
            rule = f"are lost: the ring buffer of {self._kib} KiB for each CPU was full, take a larger one (kib)"
            raise SyscallError("tracefs", f"{lost} events", rule, errno.ENOBUFS)
        events.sort(key=itemgetter(0))
        return events

    def _counted(self, cpu: _Cpu) -> tuple[int, int]:
        """Return how many events of `cpu` are there to be read, and how many were lost since this was last asked."""
        found = _STATS.match(os.pread(cpu.stats, _STATS_BYTES, 0))
        if found is None:
            raise SyscallError("tracefs", f"stats of cpu{cpu.number}", "are of a form not known here", errno.EBADMSG)
        unread, *losses = map(int, found.groups())
        before, self._lost[cpu.number] = self._lost.get(cpu.number, 0), sum(losses)
        return unread, self._lost[cpu.number] - before

    def _read(self, cpu: _Cpu, unread: int) -> tuple[list[Event], int]:
        """Return the `unread` events of `cpu`, and what came with them, and how many were lost among them."""
        events, lost = list[Event](), 0
        with contextlib.suppress(BlockingIOError):
            while len(events) < unread:
                page = os.read(cpu.pipe, self._sub_buffer.nbytes)
                events += self._decoded(cpu.number, page)
                lost += self._sub_buffer.missed(page)
        return events, lost + max(unread - len(events), 0)

    def _decoded(self, cpu: int, page: bytes) -> list[Event]:
        """Return the events in `page`. Raises SyscallError EBADMSG for one that is not of those enabled."""
        formats, kinds = self._formats, memoryview(page).cast("H")
        try:
            return [formats[kinds[at >> 1]].event(t, cpu, page, at) for t, at in self._sub_buffer.records(page)]
        except KeyError as bad:
            rule = f"in {self.path.name} is of none that was asked for: somebody else writes to it"
            raise SyscallError("tracefs", f"an event of type {bad.args[0]}", rule, errno.EBADMSG) from None

    def close(self) -> None:
        """Stop, and remove the instance, with what it still holds."""
        exits.release(self)
        while self._fds:
            os.close(self._fds.pop())  # an open file holds the instance: rmdir would say EBUSY
        self._undo.drop_instance(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, name: str, value: str) -> None:
        try:
            (self.path / name).write_text(value)
        except OSError as bad:
            raise self._refused(f"{name} = {value}", bad) from bad

    def _get(self, name: str) -> str:
        try:
            return (self.path / name).read_text()
        except OSError as bad:
            raise self._refused(name, bad) from bad

    def _open(self, name: str, flags: int = os.O_RDONLY) -> int:
        try:
            self._fds.append(os.open(self.path / name, flags | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as bad:
            raise self._refused(name, bad) from bad
        return self._fds[-1]

    def _refused(self, what: str, bad: OSError) -> LabkitError:
        """Return what to raise where the kernel refuses `what` of the instance."""
        number = bad.errno or errno.EIO
        if not self.path.is_dir():
            return self._gone()
        if number in {errno.EPERM, errno.EACCES}:
            return NotAllowed(
                "tracefs", what, "is not allowed: run as root, on a kernel that is not locked down", number
            )
        remedy = ": ask for a smaller kib" if number == errno.ENOMEM else ""
        return SyscallError("tracefs", what, f"fails: {os.strerror(number)}{remedy}", number)

    def _gone(self) -> NotAllowed:
        rule = "is gone: it was closed, or somebody removed it; begin again"
        return NotAllowed("tracefs", f"instance {self.path.name}", rule, errno.ENODEV)


def _place(event: str) -> str:
    """Return the directory of `event` below the instance's."""
    return f"events/{event.replace(':', '/')}"
