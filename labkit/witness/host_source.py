"""The kernel under our feet as a source of captures: a loop device, buffers and a trace instance of labkit's own."""

import errno
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labkit.errors import BadInput, SyscallError
from labkit.host.calls import direct
from labkit.host.calls.ring import Entry, Ring
from labkit.host.disk.real_disk import RealDisk
from labkit.host.memory import kpageflags, pagemap, vmstat
from labkit.host.memory.buffer import KINDS, RealBuffer, real_buffer
from labkit.host.refusal import speaking
from labkit.host.release import kernel_version
from labkit.host.undo import Undo
from labkit.host.watch.bpf.watch import BioWatch
from labkit.host.watch.tracefs.formats import Event
from labkit.host.watch.tracefs.instance import Instance
from labkit.scatter.payload import Range
from labkit.units import PAGE_SIZE
from labkit.witness import observe
from labkit.witness.capture import Capture
from labkit.witness.files import with_new
from labkit.witness.moved import moved
from labkit.witness.source import Asked, Extent, Space

BUFFER_BYTES = 20 << 20
"""Bytes of each buffer: room for 16 MiB that begin somewhere."""
_RAW_BYTES, _FS_BYTES, _FILE_BYTES = 64 << 20, 512 << 20, 24 << 20
_ENTRIES = 64
_PLAIN: dict[str, int | str] = {"scheduler": "none"}
"""What the queue is set to unless something else is asked for: loop devices keep what others have left (R16)."""
_TRIES, _PATIENCE_SECONDS = 12, 0.02
_BLOCK = (
    "bio_queue", "split", "getrq", "bio_backmerge", "bio_frontmerge", "rq_issue", "rq_insert", "bio_complete",
)  # fmt: skip
"""Tracepoints of the device that are predicted."""
_MORE = ("rq_complete", "rq_requeue", "rq_merge", "rq_error", "io_start", "io_done")
_FILE = ("iomap_dio_rw_begin", "iomap_iter_dstmap", "iomap_dio_rw_queued", "iomap_dio_complete")
_CALLS = {"pread": "pread64", "pwrite": "pwrite64", "preadv": "preadv", "pwritev": "pwritev"}
_Rows = list[tuple[int, int, int]]


class HostSource:
    """This machine's kernel. A context manager: whatever was made and changed for it goes when it ends.

    `told`: also what is not predicted: calls, completions, files, the ring's own events. `pins`: the counters around
    each IO (2 ms more). `bios`: the vectors of each bio, by a program in the kernel.
    """

    def __init__(
        self, *, fs: str = "raw", logical_block_size: int = 512, seed: int = 0, directory: Path | None = None,
        told: bool = True, pins: bool = False, bios: bool = False,
    ) -> None:  # fmt: skip
        """Make the device and the trace instance. Raises NotAllowed where this machine or user may not, BadInput."""
        self.kernel, self._seed, self._pins = kernel_version(), seed, pins
        self._buffers: dict[str, RealBuffer] = {}
        self._knobs: dict[str, int | str] = {}
        self._region: tuple[str, Range] | None = None
        self._exit = ExitStack()
        try:
            self._undo = self._exit.enter_context(Undo())
            nbytes, file_bytes = (_RAW_BYTES, 0) if fs == "raw" else (_FS_BYTES, _FILE_BYTES)
            with speaking("capture", "what it takes"):
                made = RealDisk.make(
                    self._undo, nbytes, logical_block_size=logical_block_size, fs=fs, directory=directory, seed=seed,
                    file_bytes=file_bytes,
                )  # fmt: skip
                self.disk = self._exit.enter_context(made)
                self._trace = self._exit.enter_context(Instance(self._undo))
                self._watch = self._exit.enter_context(BioWatch(self.disk.kdev)) if bios else None
                self._enable(told=told)
        except BaseException:
            self.close()
            raise

    def _enable(self, *, told: bool) -> None:
        """Let the instance record what happens on the device, and what this thread does. Raises NotAllowed."""
        mine, there = f"common_pid == {threading.get_native_id()}", f"dev == {self.disk.kdev}"
        wanted = {f"block:block_{name}": there for name in _BLOCK + (_MORE if told else ())}
        wanted |= {"block:block_plug": mine, "block:block_unplug": mine}
        if told:
            wanted |= {f"syscalls:sys_{way}_{name}": mine for name in _CALLS.values() for way in ("enter", "exit")}
            wanted |= {f"syscalls:sys_{way}_io_uring_enter": mine for way in ("enter", "exit")}
            wanted |= {f"io_uring:io_uring_{name}": mine for name in ("submit_req", "complete", "queue_async_work")}
        if told and self.disk.fs != "raw":
            wanted |= {f"iomap:{name}": there for name in _FILE}
        for event, where in wanted.items():
            self._trace.enable(event, where)

    @cached_property
    def space(self) -> Space:
        """What may be asked: any kind of buffer that this machine has, everywhere on the device, or in the file."""
        raw = self.disk.fs == "raw"
        return Space(
            self.disk.nbytes if raw else self.disk.file_bytes, self.disk.logical_block_size,
            dict.fromkeys(KINDS, BUFFER_BYTES), None if raw else self.disk.extents(),
        )  # fmt: skip

    def buffer(self, kind: str) -> RealBuffer:
        """Return the buffer of `kind`, which is made when it is first asked for. Raises as real_buffer does."""
        if kind not in self._buffers:
            made = real_buffer(kind, BUFFER_BYTES, self._undo, seed=self._seed)
            self._buffers[kind] = self._exit.enter_context(made)
        return self._buffers[kind]

    def capture(self, asked: Asked) -> Capture:
        """Do `asked`, again where pages moved meanwhile, and return what was seen.

        Raises BadInput for what leaves its buffer, SyscallError EAGAIN where pages move each time, ENOBUFS where events
        were lost.
        """
        with speaking("capture", asked.id):
            return self._captured(asked)

    def _captured(self, asked: Asked) -> Capture:
        """Return what `capture` does. Raises OSError, too: of what nobody has a sentence for."""
        pieces = [piece for io in asked.ios for piece in io.pieces] + ([asked.region] if asked.region else [])
        if any(start < 0 or start + n > BUFFER_BYTES for start, n in pieces):
            raise BadInput("capture", asked.id, f"leaves its buffer of {BUFFER_BYTES} bytes", errno.EINVAL)
        self._settle(asked)
        at, _ = self.buffer(asked.buffer).address, self.space  # as the file lies before its IO
        low = at + min(start for start, _ in pieces)
        high = at + max(start + n for start, n in pieces)
        do = self._call(asked, at)
        for waited in range(_TRIES):
            if waited:
                time.sleep(waited * _PATIENCE_SECONDS)  # somebody compacts memory: that ends
            before = pagemap.rows(low, high - low)
            seen = self._watched(do)
            after = pagemap.rows(low, high - low)
            if _only_came(before, after):
                return self._told(asked, at, (before, after), seen)
        raise SyscallError("capture", asked.id, f"has pages that move, {_TRIES} times in a row", errno.EAGAIN)

    def close(self) -> None:
        """Undo all that was made and changed. A second call does nothing."""
        self._exit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _settle(self, asked: Asked) -> None:
        """Let the queue be as `asked` wants it, and its region registered."""
        for name, value in {**_PLAIN, **asked.knobs}.items():
            if self._knobs.get(name) != value:
                self.disk.put(name, value)
                self._knobs[name] = value
                self.__dict__.pop("_limits", None)
        wanted = (asked.buffer, asked.region) if asked.region else None
        if wanted != self._region:
            self._ring.unregister_memory()
            self._region = None
            if wanted is not None:
                start, nbytes = wanted[1]
                self._ring.register_memory([(self.buffer(asked.buffer).address + start, nbytes)])
            self._region = wanted

    @cached_property
    def _ring(self) -> Ring:
        return self._exit.enter_context(Ring(_ENTRIES))

    @cached_property
    def _limits(self) -> dict[str, int | str]:
        return self.disk.limits()

    def _call(self, asked: Asked, at: int) -> Callable[[], list[int]]:
        """Return what does `asked` with a buffer at `at`, and returns what each IO moved, or its negative errno."""
        if asked.api.startswith("io_uring"):
            index = 0 if asked.region else None
            return self._ring.enter(
                self.disk.fd,
                [Entry(io.op == "w", at + io.pieces[0][0], io.nbytes, io.pos, index) for io in asked.ios],
            )
        io = asked.ios[0]
        do = direct.call(_name(asked, io.op), self.disk.fd, [(at + start, n) for start, n in io.pieces], io.pos)
        return lambda: [do()]

    def _watched(self, do: Callable[[], list[int]]) -> dict[str, Any]:
        """Return what `do` came to, how long it took, and what was seen of it."""
        pins = vmstat.pins() if self._pins else None
        self._bios()  # those of others that came before
        self._trace.start()
        began = time.monotonic_ns()
        try:
            result = do()
            ended = time.monotonic_ns()
        finally:
            self._trace.stop()
        seen = {"result": result, "began": began, "duration_ns": ended - began, "events": self._trace.drain()}
        seen["bios"] = self._bios()
        seen["pins"] = _difference(pins, vmstat.pins()) if pins else None
        return seen

    def _bios(self) -> list[dict[str, Any]]:
        """Return the bios of this thread and its ring's workers since the last time; [] where nobody watches."""
        tid = threading.get_native_id()
        every = self._watch.drain() if self._watch else []
        return [bio for bio in every if observe.is_mine(bio["pid"], bio["comm"], tid)]

    def _told(self, asked: Asked, at: int, layout: tuple[_Rows, _Rows], seen: dict[str, Any]) -> Capture:
        """Return the capture."""
        before, after = layout
        events: Sequence[Event] = seen["events"]
        start, nbytes = asked.region or (0, 0)
        values = {
            "format": "labkit-capture-1", "id": asked.id, "note": f"{asked.buffer} buffer", "kernel": self.kernel,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": self._device(), "limits": self._limits, "extents": self._extents(asked),
            "io": [_io(asked, io.op, io.pos, [(at + start, n) for start, n in io.pieces]) for io in asked.ios],
            "registered": [(at + start, nbytes)] if asked.region else None,
            "batch": len(asked.ios) if asked.api.startswith("io_uring") else None,
            "layout": {
                "before": before, "after": after if after != before else None,
                "large_folios": kpageflags.large_folios(after), "stable": True,
            },
            "result": seen["result"], "verified": self._moved(asked, seen["result"]), "bios": seen["bios"],
            "duration_ns": seen["duration_ns"], "pins": seen["pins"],
            "events": observe.rows(events, seen["began"], threading.get_native_id()),
        }  # fmt: skip
        return Capture.of(values, asked.id)

    def _extents(self, asked: Asked) -> Sequence[Extent] | None:
        """Return the extents of the file as the IO found them, and what it was given in their holes."""
        before = self.space.extents
        if before is None or all(io.op == "r" for io in asked.ios):
            return before
        after = self.disk.extents()
        if after != before:
            del self.__dict__["space"]
        return with_new(before, after)

    def _moved(self, asked: Asked, result: list[int]) -> bool | None:
        return moved(asked.ios, result, self.buffer(asked.buffer).view, self.disk.fd)

    def _device(self) -> dict[str, Any]:
        raw = self.disk.fs == "raw"
        return {
            "name": self.disk.name, "kdev": self.disk.kdev, "path": "blkdev" if raw else "iomap",
            "fs": None if raw else self.disk.fs, "backing_dio": self.disk.backing_dio, "size_bytes": self.disk.nbytes,
            "file_bytes": None if raw else self.disk.file_bytes,
        }  # fmt: skip


def _name(asked: Asked, op: str) -> str:
    """Return the call: pwrite where pread is asked to write."""
    return asked.api.replace("read", "write") if op == "w" else asked.api


def _io(asked: Asked, op: str, pos: int, iov: list[Range]) -> dict[str, Any]:
    """Return one IO as a capture spells it."""
    ring, fixed = asked.api.startswith("io_uring"), asked.region is not None
    api = f"io_uring_{'write' if op == 'w' else 'read'}{'_fixed' * fixed}" if ring else _name(asked, op)
    return {"api": api, "op": op, "pos": pos, "iov": iov, "buf_index": 0 if fixed else None}


def _only_came(before: _Rows, after: _Rows) -> bool:
    """Return whether every page that was there is there still: pages may come in the midst of an IO, and not move."""
    if before == after:
        return True
    now = {va + at * PAGE_SIZE: pfn + at for va, pfn, pages in after if pfn >= 0 for at in range(pages)}
    there = ((va + at * PAGE_SIZE, pfn + at) for va, pfn, pages in before if pfn >= 0 for at in range(pages))
    return all(now.get(va) == pfn for va, pfn in there)


def _difference(before: vmstat.Pins, after: vmstat.Pins) -> dict[str, Any]:
    """Return what was pinned and let go of between two looks."""
    return {
        "acquired": after.acquired - before.acquired, "released": after.released - before.released,
        "exact": "system-wide counters after stat_refresh: other processes may add" if after.exact else "batched",
    }  # fmt: skip
