"""Direct IO: pin, hand over, wait, unpin; whatever happens in between, nothing stays held."""

import errno
from collections.abc import Callable, Generator
from functools import partial
from itertools import count
from typing import Any, Protocol, TypeVar

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps, Wait
from labkit.hardware.cpu import Cpu
from labkit.kernel.block.bio import BIO_MAX_SIZE, Bio
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.block.plug import Plug
from labkit.kernel.currency.ops import Currency, Hold, Kiocb, Released
from labkit.kernel.fs.ops import DioIter, Iocb, Taken
from labkit.kernel.fs.submission import Submission, Submitter
from labkit.kernel.mm.fault.memory import FaultRetry
from labkit.kernel.mm.pin.dirty import mark_dirty
from labkit.kernel.version import KERNELS, NEWEST, Rules
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SIZE

T = TypeVar("T")


class File(Protocol):
    """An open file that direct IO can be done on."""

    name: str
    queue: BioConsumer

    @property
    def i_size(self) -> int:
        """Return the bytes of the file, or of the device."""

    @property
    def dio(self) -> bool:
        """Return whether direct IO can be had now: else it goes through the cache, and nobody is told (DIO-17)."""

    def check(self, call: str, pos: int, nbytes: int, *, write: bool, flags: Iocb = ..., direct: bool = ...) -> int:
        """Return how many bytes the call is for; 0 at the end. Raises SyscallError, and nothing has happened."""

    def dio_submit(self, sub: Submission, it: DioIter) -> Steps:
        """Send the bios of one IO. Raises SyscallError where nothing may be sent."""

    def dio_complete(self, sub: Submission) -> Generator[Wait, Any, int]:
        """Return the bytes that were moved, now that every bio is over. Raises what the IO met."""


class Source:
    """The memory of one direct IO, as its currency takes it: for each bio, or all of it at the start (DioIter)."""

    def __init__(self, dio: "DirectIO", iocb: Kiocb, sub: Submission) -> None:
        """Begin at the first byte, with nothing pinned."""
        self.dio, self.iocb, self.sub, self.currency = dio, iocb, sub, dio.currency
        self.holds: dict[int, Hold] = {}
        self.start = self.owed = 0
        self._base = self._end = 0
        self._whole: Hold | None = None
        self.in_parts = not self.currency.per_bio

    @property
    def left(self) -> int:
        """Bytes that nobody has taken yet."""
        return self.iocb.nbytes - self.start

    def npages(self) -> int:
        """Return how many vectors a table would need for what is left (R7); none where the bio takes a list (DIO-7)."""
        return self.currency.slots(self.iocb, self.start)

    def aligned(self, address: int, length: int) -> bool:
        """Return whether every piece begins and ends as the masks want it."""
        return not any(addr & address or n & length for addr, n in self.iocb.pieces)

    def begin(self) -> Steps:
        """Pin what is pinned at the start of the IO (P2 of the proposal)."""
        if self.in_parts:
            yield from self._next_part()

    def take(self, nbytes: int) -> Generator[Wait, Any, Taken]:
        """Return the memory of the next bio. Raises SyscallError where nothing can be had."""
        if not self.in_parts:
            hold = yield from self._pin(nbytes)
            self.start += hold.nbytes
            return Taken(hold.payload, partial(self._bio_release_pages, hold.token))
        if self.start == self._end:
            yield from self._next_part()
        hold = self._held()
        at = self.start - self._base
        room = min(nbytes, self._end - self.start, self._most(hold, at))
        self.start += room
        return Taken(hold.payload.slice(at, room))

    def zero(self, nbytes: int) -> Steps:
        """Write zeros over the next `nbytes` of user memory. Raises SyscallError EFAULT where some cannot be written.

        Where all is pinned already, by its physical addresses (D-5); else by a fault for each page (DIO-15).
        """
        done = 0
        while done < nbytes:
            if self.in_parts and self.start == self._end:
                yield from self._next_part()
            want = min(nbytes - done, self._end - self.start) if self.in_parts else nbytes
            pinned = self._held().payload.slice(self.start - self._base, want) if self.in_parts else None
            came = yield from self._faulted(partial(self.currency.zero, self.iocb, self.start, want, pinned))
            self.start, done = self.start + came, done + came
            yield self.dio.cpu.copy_page * -(-came // PAGE_SIZE)
            if came < want:
                what = f"{nbytes} bytes of a hole"
                raise SyscallError(self.iocb.call, what, "cannot all be written to (DIO-15)", errno.EFAULT)

    def end(self) -> Steps:
        """Let go of all that is pinned still, and take the time of it."""
        for token in tuple(self.holds):
            self._unpin(token)
        yield self.owed

    def _next_part(self) -> Steps:
        """Pin all of it, or the next chunk. Raises SyscallError EINVAL where a class ends inside a block (D-8, D-9).

        Where the last one ends is the file's to judge: a hole takes any length (DIO-15).
        """
        hold = self._whole = yield from self._pin(None)
        self._base, self._end = self.start, self.start + hold.nbytes
        lbs = self.iocb.limits.logical_block_size
        for cls, nbytes in tuple(hold.payload.classes)[:-1]:
            if nbytes % lbs:
                what = f"{nbytes} bytes of {cls.kind} memory"
                raise SyscallError(self.iocb.call, what, f"are not a multiple of {lbs} (DIO-10, D-9)", errno.EINVAL)

    def _held(self) -> Hold:
        if self._whole is None:
            raise SyscallError(self.iocb.call, "memory", "was not pinned at the start", errno.EFAULT)
        return self._whole

    def _most(self, hold: Hold, at: int) -> int:
        """Return what one bio may carry from byte `at` on: one class (D-8), and what 32 bits can count (D-11)."""
        lbs = self.iocb.limits.logical_block_size
        most = BIO_MAX_SIZE // lbs * lbs
        for _, nbytes in hold.payload.classes:
            if at < nbytes:
                return min(most, nbytes - at)
            at -= nbytes
        return most

    def _pin(self, nbytes: int | None) -> Generator[Wait, Any, Hold]:
        """Pin what the currency takes in one step, and take the time of it."""
        dio, iocb, cpu = self.dio, self.iocb, self.dio.cpu
        hold: Hold = yield from self._faulted(partial(self.currency.pin, iocb, self.start, nbytes))
        self.holds[hold.token] = hold
        dio.emit((
            "GupPin", dio.env.now, iocb.io, hold.token, self.currency.policy, iocb.at(self.start)[0], hold.ranges,
            hold.ptes, hold.atomics, hold.struct_pages, hold.descriptor_bytes, hold.cache_lines, iocb.mm.task,
            hold.faults,
        ))  # fmt: skip
        if hold.dirty_first:
            mark_dirty(iocb.mm, hold.ranges, iocb.io)
        built = (
            len(hold.ranges) if hold.ptes or hold.descriptor_bytes else 0
        )  # else the list is there (DIO-7, DMABUF-1)
        yield cpu.walk * hold.ptes + cpu.pin * hold.atomics + cpu.vec * built
        return hold

    def _faulted(self, step: Callable[[], T]) -> Generator[Wait, Any, T]:
        """Do `step`, and return what it does; first wait for what it meets on its way from a device (MM-11).

        Raises what it raises, EAGAIN too where nobody may wait (NOWAIT).
        """
        while True:
            try:
                return step()
            except FaultRetry as late:
                if self.iocb.flags & Iocb.NOWAIT:
                    raise
                yield from self.sub.asleep()
                yield from late.wait()

    def _bio_release_pages(self, token: int, _bio: Bio) -> None:
        """Let go of one bio's pages while others are still on their way; only the last bio keeps the caller waiting."""
        self.owed = 0
        self._unpin(token)

    def _unpin(self, token: int) -> None:
        """Let go of one hold, and owe the time that it takes."""
        dio, iocb, released = self.dio, self.iocb, Released(0, 0)
        try:
            released = self.currency.unpin(iocb, self.holds[token])
        finally:
            if token not in iocb.mm.ledger.held:  # else it was struck before it let go, and is asked again
                del self.holds[token]
                cost = dio.cpu.unpin * released.atomics
                self.owed += cost
                dio.emit(("GupUnpin", dio.env.now, iocb.io, token, released.atomics, released.struct_pages, cost))


class DirectIO:
    """The direct IO of one machine, in one currency."""

    def __init__(self, env: Clock, cpu: Cpu, currency: Currency, emit: Emit, rules: Rules = KERNELS[NEWEST]) -> None:
        """Do IO in `currency`, as the kernel of `rules` does what all of them share."""
        self.env, self.cpu, self.currency, self.emit = env, cpu, currency, emit
        self.by = Submitter(env, cpu, emit, rules)
        self._ios = count(1)

    def next_io(self) -> int:
        """Return the number of the next IO."""
        return next(self._ios)

    def direct_io(self, iocb: Kiocb, file: File) -> Generator[Wait, Any, int]:
        """Move `iocb.nbytes` bytes; return how many were moved. Errors: those of submit and complete."""
        started = yield from self.submit(iocb, file)
        return (yield from self.complete(*started))

    def submit(
        self, iocb: Kiocb, file: File, plug: Plug | None = None
    ) -> Generator[Wait, Any, tuple[Submission, Source, File]]:
        """Send all of one IO on its way, and do not wait for it; `plug` is one that is around several IOs (R19).

        Raises SyscallError for what cannot be sent: nothing is held then, and no bio is on its way.
        """
        sub = Submission(iocb, file.queue, self.by, plug)
        it = Source(self, iocb, sub)
        try:
            yield from it.begin()
            yield from file.dio_submit(sub, it)
        except Exception:
            yield from self._let_go(sub, it, given_up=True)
            sub.close()
            raise
        except BaseException:
            self._abandon(sub, it)
            raise
        return sub, it, file

    def complete(self, sub: Submission, it: Source, file: File) -> Generator[Wait, Any, int]:
        """Wait for every bio, let go of what is pinned, and return the bytes moved. Raises what the IO met."""
        yield from self._let_go(sub, it)
        try:
            return (yield from file.dio_complete(sub))
        finally:
            sub.close()

    def _let_go(self, sub: Submission, it: Source, *, given_up: bool = False) -> Steps:
        """Wait for every bio, and unpin what is held still; `given_up`: what waits in the plug goes first."""
        try:
            if given_up and sub.plug is not None and sub.plug.held:
                yield from sub.plug.flush()
            yield from sub.wait()
            yield from it.end()
            if sub.bios:
                yield self.cpu.wakeup
        except BaseException:
            self._abandon(sub, it)
            raise

    def _abandon(self, sub: Submission, it: Source) -> None:
        """Leave an IO whose task is gone to a worker: by Ctrl-C, or a bug, or since nobody asks any more.

        The clock may stand still by now, and nothing can be waited for here; the worker goes on when it runs again.
        """
        if sub.bios or it.holds:
            self.env.job(self._reap(sub, it))
        else:
            sub.close()

    def _reap(self, sub: Submission, it: Source) -> Steps:
        """Do for an abandoned IO what its task would have done."""
        try:
            if sub.plug is not None and sub.plug.held:
                yield from sub.plug.flush()
            yield from sub.wait()
            yield from it.end()
        finally:
            sub.close()
