"""What nobody traces: the pages of a bio, from pagemap; its vectors and segments, by the kernel's rules."""

from collections.abc import Iterator
from typing import cast

from labkit.errors import BadInput, SyscallError
from labkit.kernel.block.split import Piece, split_to_limits
from labkit.kernel.currency.ops import Kiocb
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.scatter.payload import Range, Ranges, cut, join, run_length
from labkit.trace.events import GupPin, GupUnpin
from labkit.trace.translations import Run
from labkit.units import PAGE_SIZE, PMD_ORDER, Sector
from labkit.witness.recorded import RecordedCurrency
from labkit.witness.replay.calls import pieces
from labkit.witness.replay.tale import Tale

PINS = "from pagemap: a bio pins its pages until it ends (MM-17)"
_FIXED = "from pagemap: a registered buffer is pinned once (R17)"
"""Where records of pins are from."""


class Hold:
    """The memory of one capture."""

    def __init__(self, tale: Tale) -> None:
        """Look it up in the layout of the capture."""
        capture = tale.capture
        self._tale, self._capture, self._limits = tale, capture, capture.queue_limits
        self._checked = capture.rules[0].aligned != "split"
        self._currency = RecordedCurrency(capture.buffer, capture.rules[0], capture.regions, capture.provider)
        self._truth = [bio for bio in capture.bios or () if "queue" in {bio.get("kind"), bio.get("event")}]
        self._segments = {
            (int(bio["sector"]), int(bio["bytes"])): int(bio.get("segs", 0))
            for bio in capture.bios or () if bio.get("kind") == "issue"
        }  # fmt: skip
        self._pins: dict[int, GupPin] = {}

    def register(self) -> None:
        """Tell of the buffers that are registered: they are pinned since before the call (R17)."""
        for region in self._capture.regions:
            if found := self._physical([region]):
                self._take(0, 0, found)

    def pin(self, t: int, io: int, start: int, nbytes: int) -> int:
        """Tell of the pages of a bio; return the token, 0 where none is pinned for it."""
        asked = self._capture.io[io - 1]
        found = self._physical(pieces(asked, start, nbytes))
        if asked.buf_index is not None or not found or sum(run.len for run in found) != nbytes:
            return 0
        return self._take(t, io, found)

    def unpin(self, t: int, io: int, token: int) -> None:
        """Tell that what `token` pinned is let go of."""
        pin = self._pins[token]
        self._tale.infer(GupUnpin(t, io, token, pin.atomics, pin.struct_pages), PINS)

    def vectors(self, io: int, start: int, sector: int, nbytes: int) -> Ranges:
        """Return the vectors of a bio: as they were read in the kernel, where they were, else as rules have them."""
        for at, bio in enumerate(self._truth):
            if int(bio["sector"]) == sector and int(bio["bytes"]) == nbytes:
                told = [(int(addr), int(n)) for addr, n in bio["bvecs"]]
                del self._truth[at]
                if sum(n for _, n in told) == nbytes:
                    return join([tuple(told)])
        return self._by_rules(io, start, nbytes) if io and start >= 0 else ()

    def piece(self, vecs: Ranges, skip: int, sector: int, nbytes: int) -> Piece | None:
        """Return the front of `nbytes` bytes from byte `skip` of a bio on, as the limits part it; None if unknown."""
        rest = cut(vecs, skip, nbytes)
        try:
            return next(split_to_limits(rest, Sector(sector), self._limits, checked=self._checked), None)
        except SyscallError:
            return None

    def segments(self, vecs: Ranges, skip: int, sector: int, nbytes: int) -> int:
        """Return the segments of a request, or of what joins one: as it was read in the kernel, else by rules."""
        if told := self._segments.get((sector, nbytes)):
            return told
        front = self.piece(vecs, skip, sector, nbytes)
        return front.segments if front is not None and front.nbytes == nbytes else 0

    def _by_rules(self, io: int, start: int, nbytes: int) -> Ranges:
        asked = self._capture.io[io - 1]
        mine = pieces(asked, start, nbytes)
        iocb = Kiocb(
            io, cast("Mm", self._capture.buffer), asked.api, asked.iov[0][0], sum(n for _, n in asked.iov), asked.pos,
            asked.op == "w", self._limits, tuple(asked.iov), buf_index=asked.buf_index,
        )  # fmt: skip
        try:
            ranges = self._currency.pin(iocb, start, nbytes).ranges if mine else ()
        except (SyscallError, BadInput):
            return ()
        return ranges if sum(n for _, n in ranges) == nbytes else ()

    def _physical(self, mine: list[Range]) -> list[Run]:
        """Return the runs of user memory, each piece of it by itself; less than all where some is absent."""
        return [run for addr, nbytes in mine for run in self._piece(addr, nbytes)]

    def _piece(self, addr: int, nbytes: int) -> Iterator[Run]:
        skip = addr % PAGE_SIZE
        try:
            got = self._capture.buffer.extract(addr, -(-(skip + nbytes) // PAGE_SIZE))
        except SyscallError:
            return
        for pa, n in run_length(cut(got.runs, skip, nbytes)):
            yield Run(addr, pa, n, 0)
            addr += n

    def _take(self, t: int, io: int, found: list[Run]) -> int:
        """Tell of a pin: of pages, as they are counted, with an atomic operation for each entry that maps them.

        There is none where the counters of the machine say that nothing was pinned, as for the zero page (MM-15).
        """
        pages = sum(_pages(run.pa, run.len) for run in found)
        entries = sum(self._entries(run) for run in found)
        counted = 0 if io and (self._capture.pins or {}).get("acquired", 1) == 0 else entries
        token, ranges = len(self._pins) + 1, join([tuple((run.pa, run.len) for run in found)])
        pin = GupPin(t, io, token, "page", found[0].va, ranges, entries, counted, pages, 0)
        self._pins[token] = pin
        self._tale.infer(pin, PINS if io else _FIXED)
        return token

    def _entries(self, run: Run) -> int:
        """Return how many page table entries map `run`: where a folio and its address allow it, one for 2 MiB."""
        size, at, entries = PAGE_SIZE << PMD_ORDER, run.pa, 0
        while at < run.pa + run.len:
            head, length = self._capture.buffer.folio(at)
            stop = min(head + length, run.pa + run.len)
            by_pmd = length >= size and (run.va - run.pa) % size == 0
            entries += -(-stop // size) - at // size if by_pmd else _pages(at, stop - at)
            at = stop
        return entries


def _pages(addr: int, nbytes: int) -> int:
    """Return how many pages `nbytes` bytes from `addr` on touch."""
    return (addr + nbytes + PAGE_SIZE - 1) // PAGE_SIZE - addr // PAGE_SIZE
