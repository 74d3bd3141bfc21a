"""Who holds which memory: one entry for each pin, whatever its policy counts on top."""

import errno
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.errors import InvariantError
from labkit.scatter.payload import FEW, Range, Ranges, join
from labkit.scatter.phyr import Phyrs, phyrs_of
from labkit.scatter.range_array import RangeArray
from labkit.trace.snapshot import PinState
from labkit.units import PAGE_SHIFT, PAGE_SIZE

Told = Callable[[PinState], None]
"""Who waits for a pin is told of it when it is let go of."""


_KEEPING = frozenset({"range", "lease"})
"""Policies that count on nothing else."""
_KNOWN = _KEEPING | {"page", "folio", "none"}


class _Use(NamedTuple):
    """What else is known of a pin.

    `task`: whose memory it is; `phyrs`: in which classes; `per_bio`: the end of a bio lets go of it; `told`: whoever
    pins and unpins tells the trace of it, rather than the IO that asked.
    """

    task: int
    phyrs: Phyrs | None
    per_bio: bool
    told: bool


class PinLedger:
    """Pins that are held now, by token. A pin is taken as a whole and let go of as a whole (PHYR-17).

    Pins of policy "range" and leases keep memory where it is by being here: `covers` and `held_mask` ask for these.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.held: dict[int, PinState] = {}
        self.waiters: dict[int, list[Told]] = {}
        """Who wants to be told, by token."""
        self._uses: dict[int, _Use] = {}
        self._index: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self._tokens = count(1)

    def pin(
        self, io: int, since: int, policy: str, ranges: Ranges, task: int = 0, phyrs: Phyrs | None = None,
        *, per_bio: bool = False, told: bool = False,
    ) -> int:  # fmt: skip
        """Note that IO `io` holds `ranges` (physical) of `task` since `since` ns under `policy`; return its token.

        `per_bio`: the end of one bio lets go of it, not the end of the IO; `told`: whoever unpins it tells the trace.
        Raises InvariantError EINVAL as `check` does; nothing is held then.
        """
        self.check(policy, ranges)
        token = next(self._tokens)
        self.held[token] = PinState(token, io, since, policy, ranges)
        self._uses[token] = _Use(task, phyrs, per_bio, told)
        self._index = None
        return token

    @staticmethod
    def check(policy: str, ranges: Ranges) -> None:
        """Raise InvariantError EINVAL where `policy` is none, or `ranges` are none, empty, or not in memory."""
        if policy not in _KNOWN:
            raise InvariantError("mm", f"a pin by {policy!r}", "is by no policy that is known", errno.EINVAL)
        if not len(ranges):
            raise InvariantError("mm", "a pin on nothing", "has no range that it could hold", errno.EINVAL)
        if len(ranges) == 1:  # the most common case
            bad = ranges[0][0] < 0 or ranges[0][1] < 1
        elif isinstance(ranges, RangeArray):
            bad = bool((ranges.addrs < 0).any() or (ranges.lens < 1).any())
        else:
            bad = any(addr < 0 or nbytes < 1 for addr, nbytes in ranges)
        if bad:
            raise InvariantError("mm", "a pin", "has a range of less than a byte, or before address 0", errno.EINVAL)

    def unpin(self, token: int) -> PinState:
        """Let go of all that `token` pinned, and tell who waits. Raises InvariantError EINVAL: a double unpin."""
        pin, _ = self._pop(token)
        self.released(pin)
        return pin

    def take(self, token: int) -> tuple[PinState, Phyrs]:
        """Take `token` out, and return what it held; nobody is told yet. Raises InvariantError as unpin does."""
        pin, phyrs = self._pop(token)
        return pin, phyrs if phyrs is not None else _phyrs(pin)

    def released(self, pin: PinState) -> None:
        """Tell whoever waits for `pin` that it is let go of."""
        if self.waiters:
            for told in self.waiters.pop(pin.token, ()):
                told(pin)

    def peek(self, token: int, at: int) -> tuple[PinState, Phyrs]:
        """Return what `token` holds, to be split at byte `at`. Raises InvariantError EINVAL where it cannot be."""
        pin = self.held.get(token)
        if pin is None:
            raise InvariantError("mm", f"pin token {token}", "is not held, and is split (PHYR-17)", errno.EINVAL)
        phyrs = self._uses[token].phyrs or _phyrs(pin)
        if not 0 < at < phyrs.nbytes:
            rule = f"leaves nothing of {phyrs.nbytes} bytes (PHYR-17)"
            raise InvariantError("mm", f"a split of pin token {token} at {at}", rule, errno.EINVAL)
        return pin, phyrs

    def inherit(self, token: int, *parts: int) -> None:
        """Let those who wait for `token`, which was split, wait for all of its `parts` instead."""
        for told in self.waiters.pop(token, ()):
            left = set(parts)

            def last(pin: PinState, told: Told = told, left: set[int] = left) -> None:
                left.discard(pin.token)
                if not left:
                    told(pin)

            for part in parts:
                self.on_release(part, last)

    def on_release(self, token: int, told: Told) -> None:
        """Call `told` when `token` is let go of. Raises InvariantError EINVAL for one that is not held."""
        if token not in self.held:
            raise InvariantError("mm", f"pin token {token}", "is not held, and is waited for", errno.EINVAL)
        self.waiters.setdefault(token, []).append(told)

    def released_by(self, token: int) -> str:
        """Return which event will let go of `token`. Raises InvariantError EINVAL for one that is not held."""
        if self.use(token).per_bio:
            return "bio_release_pages of its bio (page)"
        io = self.held[token].io
        if not io:
            return "put_user_phyrs by whoever took it: no IO lets go of it (io_uring: unregister)"
        return f"GupUnpin at the end of IO {io} (phyr: as a whole)"

    def task_of(self, token: int) -> int:
        """Return the number of the task whose memory `token` holds. Raises InvariantError as released_by does."""
        return self.use(token).task

    def use(self, token: int) -> _Use:
        """Return what else is known of `token`. Raises InvariantError EINVAL for one that is not held."""
        use = self._uses.get(token)
        if use is None:
            raise InvariantError("mm", f"pin token {token}", "is not held, and is asked about", errno.EINVAL)
        return use

    def holders(self, pfn: int) -> tuple[int, ...]:
        """Return the tokens that hold a byte of frame `pfn`, of any policy."""
        return self.holding(((pfn << PAGE_SHIFT, PAGE_SIZE),))

    def holding(self, runs: Sequence[Range]) -> tuple[int, ...]:
        """Return the tokens that hold a byte of `runs` (physical), of any policy."""
        return tuple(token for token, pin in self.held.items() if _meet(pin.ranges, runs))

    def leases(self, runs: Sequence[Range]) -> tuple[int, ...]:
        """Return the tokens that use a byte of `runs` under a lease: their owner may ask for it back."""
        return tuple(token for token in self.holding(runs) if self.held[token].policy == "lease")

    def covers(self, addr: int, nbytes: int) -> bool:
        """Return whether a range or a lease holds a byte of [addr, addr + nbytes)."""
        kept = self._kept()
        if self._index is None and sum(map(len, kept)) <= FEW:
            return any(_touch(ranges, addr, addr + nbytes) for ranges in kept)
        return bool(self._held(np.array([addr]), nbytes)[0])

    def held_mask(self, heads: NDArray[np.int64], nbytes: int) -> NDArray[np.bool_]:
        """Return, for each folio of `nbytes` at frame `heads`, whether a range or a lease holds a byte of it."""
        if not self._kept():
            return np.zeros(len(heads), np.bool_)
        return self._held(heads << PAGE_SHIFT, nbytes)

    def _pop(self, token: int) -> tuple[PinState, Phyrs | None]:
        """Take `token` out; the phyrs are known of some."""
        pin = self.held.pop(token, None)
        if pin is None:
            raise InvariantError("mm", f"pin token {token}", "is not held, and is let go of (PHYR-17)", errno.EINVAL)
        self._index = None
        return pin, self._uses.pop(token).phyrs

    def _kept(self) -> list[Ranges]:
        """Return what ranges and leases hold."""
        return [pin.ranges for pin in self.held.values() if pin.policy in _KEEPING]

    def _held(self, start: NDArray[np.int64], nbytes: int) -> NDArray[np.bool_]:
        """Return which of [start, start + nbytes) a range touches: one that begins before its end, and ends after."""
        if self._index is None:
            self._index = _sorted(join(self._kept()))
        addrs, ends = self._index
        before = addrs.searchsorted(start + nbytes, "left")
        held: NDArray[np.bool_] = (before > 0) & (ends[before - 1] > start)
        return held


def _phyrs(pin: PinState) -> Phyrs:
    return phyrs_of([addr for addr, _ in pin.ranges], [nbytes for _, nbytes in pin.ranges])


def _sorted(ranges: Ranges) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first addresses of `ranges` in order, and for each the farthest end up to it; never empty."""
    table = ranges if isinstance(ranges, RangeArray) else RangeArray.join([ranges])
    by_addr = np.argsort(table.addrs, kind="stable")
    addrs = table.addrs[by_addr]
    return addrs, np.maximum.accumulate(addrs + table.lens[by_addr])


def _touch(ranges: Sequence[Range], lo: int, hi: int) -> bool:
    return any(addr < hi and addr + nbytes > lo for addr, nbytes in ranges)


def _meet(ranges: Ranges, runs: Sequence[Range]) -> bool:
    """Return whether any byte is in both."""
    if isinstance(ranges, RangeArray):
        return any(bool(((ranges.addrs < a + n) & (ranges.addrs + ranges.lens > a)).any()) for a, n in runs)
    return any(_touch(ranges, addr, addr + nbytes) for addr, nbytes in runs)
