"""A virtio disk: it takes chains out of a ring in memory, obeys their bytes, and writes its answers there.

The formats are those of the virtio specification, split ring, little endian (VIO-1).
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from labkit.hardware.clock import Clock
from labkit.hardware.controller import Controller, Verdict, Work
from labkit.hardware.device import Bus, BusFault, Command, Done, fetch, store
from labkit.hardware.media.ops import Medium
from labkit.hardware.table import Overrides, profile
from labkit.trace.tracer import Emit
from labkit.units import SECTOR_SHIFT, SECTOR_SIZE

DESC = struct.Struct("<QIHH")
"""struct vring_desc: address, bytes, flags, next."""
HEADER = struct.Struct("<IIQ")
"""struct virtio_blk_outhdr: type, priority, sector."""
USED = struct.Struct("<II")
"""struct vring_used_elem: head of the chain, bytes that were written to memory."""
INDEX = struct.Struct("<H")
RING_HEADER = 4
"""Bytes of flags and idx before the entries of either ring."""
DESC_F_NEXT, DESC_F_WRITE, DESC_F_INDIRECT = 1, 2, 4
TYPE_IN, TYPE_OUT, TYPE_FLUSH = 0, 1, 4
STATUS_OK, STATUS_IOERR, STATUS_UNSUPP = 0, 1, 2


@dataclass(frozen=True, slots=True)
class VirtioProfile:
    """What the device offers, and what its work takes."""

    queue_size: int
    seg_max: int
    indirect: int
    """Whether it takes indirect tables (VIRTIO_RING_F_INDIRECT_DESC), 0 or 1."""
    overhead_ns: int
    link_bytes_per_ns: float

    @classmethod
    def load(cls, path: Path, overrides: Overrides | None = None) -> Self:
        """Read a profile from the TOML file at `path`. Raises BadInput for nonsense (hardware.table.profile)."""
        bounds = {"queue_size": (4, 1024), "seg_max": (1, 254), "indirect": (0, 1), "link_bytes_per_ns": (0.001, 1000)}
        return profile(cls, path, overrides, bounds)


class Desc(NamedTuple):
    """One descriptor: a stretch of memory (bus address, bytes), and what it is for."""

    addr: int
    len: int
    flags: int
    next: int


class Rings(NamedTuple):
    """Bus addresses of the three parts of a virtqueue, and its entries."""

    desc: int
    avail: int
    used: int
    num: int


class BadChain(Exception):
    """A chain that the specification forbids: the device needs a reset."""


class VirtioBlk(Controller):
    """One disk of 512-byte sectors, one virtqueue."""

    def __init__(self, env: Clock, bus: Bus, medium: Medium, numbers: VirtioProfile, emit: Emit) -> None:
        """Keep data in `medium`, reach memory through `bus`."""
        super().__init__(
            env, bus, medium, emit, overhead_ns=numbers.overhead_ns, link_bytes_per_ns=numbers.link_bytes_per_ns
        )
        self.profile = numbers
        self.broken = False
        """Whether the rings made no sense (DEVICE_NEEDS_RESET): it does nothing any more."""
        self._rings = Rings(0, 0, 0, 0)
        self._seen = self._used = 0
        self._told: dict[int, tuple[Command, Done, Desc]] = {}

    def set_queue(self, rings: Rings) -> None:
        """Take the addresses of the virtqueue, whose rings are empty."""
        self._rings, self._seen, self._used, self.broken = rings, 0, 0, False

    def reset(self) -> bool:
        """Forget every chain."""
        self._told.clear()
        return super().reset()

    def submit(self, cmd: Command, done: Done) -> None:
        """Be notified that a chain, whose head is `cmd.slot`, is in the ring; `done` is the interrupt."""
        if self.silent or self.broken:
            return
        try:
            head = self._next_avail()
            self._serve(head, cmd, done)
        except BusFault as bad:
            self.fault(Work(cmd.slot, cmd.io, cmd.rq, cmd.write, 0, 0), bad)
            self.broken = True
        except BadChain:
            self.broken = True

    def _next_avail(self) -> int:
        """Take the next head out of the available ring. Raises BadChain for a ring that has none."""
        rings = self._rings
        (idx,) = INDEX.unpack(fetch(self.bus.views(rings.avail + 2, 2)))
        if idx == self._seen:
            raise BadChain
        at = rings.avail + RING_HEADER + 2 * (self._seen % rings.num)
        self._seen = (self._seen + 1) & 0xFFFF
        return int(INDEX.unpack(fetch(self.bus.views(at, 2)))[0])

    def _chain(self, head: int) -> list[Desc]:
        """Return the descriptors of a chain, read from the ring, or from the table that it leads to."""
        first = self._desc(self._rings.desc, head, self._rings.num)
        if not first.flags & DESC_F_INDIRECT:
            return self._follow(self._rings.desc, head, self._rings.num)
        if first.len % DESC.size or first.flags & DESC_F_NEXT:
            raise BadChain
        return self._follow(first.addr, 0, first.len // DESC.size)

    def _follow(self, table: int, at: int, most: int) -> list[Desc]:
        """Return the chain that begins with entry `at` of a table of `most`. Raises BadChain for one that circles."""
        raw = fetch(self.bus.views(table, most * DESC.size))
        found: list[Desc] = []
        while len(found) < most and at < most:
            found.append(Desc(*DESC.unpack_from(raw, at * DESC.size)))
            if not found[-1].flags & DESC_F_NEXT:
                return found
            at = found[-1].next
        raise BadChain

    def _desc(self, table: int, at: int, most: int) -> Desc:
        if at >= most:
            raise BadChain
        return Desc(*DESC.unpack(fetch(self.bus.views(table + at * DESC.size, DESC.size))))

    def _serve(self, head: int, cmd: Command, done: Done) -> None:
        """Understand the chain at `head`, and begin, or refuse."""
        descs = self._chain(head)
        first, last = descs[0], descs[-1]
        if len(descs) < 2 or first.len != HEADER.size or first.flags & DESC_F_WRITE or not last.flags & DESC_F_WRITE:  # noqa: PLR2004 - header and status
            raise BadChain
        kind, _, sector = HEADER.unpack(fetch(self.bus.views(first.addr, HEADER.size)))
        data, write = descs[1:-1], kind == TYPE_OUT
        nbytes = sum([desc.len for desc in data])
        pieces = tuple([(desc.addr, desc.len) for desc in data])
        work = Work(head, cmd.io, cmd.rq, write, sector << SECTOR_SHIFT, 0 if kind == TYPE_FLUSH else nbytes, pieces)
        self._told[head] = (cmd, done, last)
        status = self._refusal(kind, work, data)
        if status:
            self.env.later(self.profile.overhead_ns, self._answer, work, status, 0, self._life)
        else:
            self.begin(work, self._ended)

    def _refusal(self, kind: int, work: Work, data: list[Desc]) -> int:
        """Return the status of a command that cannot be done, 0 for one that can."""
        if kind not in {TYPE_IN, TYPE_OUT, TYPE_FLUSH}:
            return STATUS_UNSUPP
        if kind == TYPE_FLUSH:
            return STATUS_OK
        wrong = any((desc.flags & DESC_F_WRITE == 0) != work.write for desc in data)
        beyond = work.pos + work.nbytes > self.nbytes
        return STATUS_IOERR if wrong or beyond or not work.nbytes or work.nbytes % SECTOR_SIZE else STATUS_OK

    def _ended(self, work: Work, verdict: Verdict, moved: int) -> None:
        self._answer(work, STATUS_OK if verdict is Verdict.OK else STATUS_IOERR, moved, self._life)

    def _answer(self, work: Work, status: int, moved: int, life: int) -> None:
        """Write the status byte and the used element, and raise the interrupt."""
        if self.silent or life != self._life:
            return
        _, done, last = self._told.pop(work.slot)
        rings, written = self._rings, 1 if work.write else 1 + moved
        try:
            store(self.bus.views(last.addr, 1, True), bytes([status]))
            at = rings.used + RING_HEADER + USED.size * (self._used % rings.num)
            store(self.bus.views(at, USED.size, True), USED.pack(work.slot, written))
            self._used = (self._used + 1) & 0xFFFF
            store(self.bus.views(rings.used + 2, 2, True), INDEX.pack(self._used))
        except BusFault as bad:
            self.fault(work, bad)
            self.broken = True
            return
        if self.rings():
            done(status)
