"""Who holds which memory: one entry for each pin, whatever its policy counts on top."""

import errno
from collections.abc import Iterable
from itertools import count

from labkit.errors import InvariantError
from labkit.trace.events import Ranges
from labkit.trace.snapshot import PinState


class PinLedger:
    """Pins that are held now, by token. A pin is taken as a whole and let go of as a whole (PHYR-17)."""

    def __init__(self) -> None:
        """Begin with none."""
        self.held: dict[int, PinState] = {}
        self._tokens = count(1)

    def pin(self, io: int, since: int, policy: str, ranges: Ranges) -> int:
        """Note that IO `io` holds `ranges` (physical) since `since` ns under `policy`; return its token."""
        token = next(self._tokens)
        self.held[token] = PinState(token, io, since, policy, ranges)
        return token

    def unpin(self, token: int) -> PinState:
        """Let go of all that `token` pinned. Raises InvariantError for one that is not held: a double unpin."""
        pin = self.held.pop(token, None)
        if pin is None:
            raise InvariantError("mm", f"pin token {token}", "is not held, and is let go of (PHYR-17)", errno.EINVAL)
        return pin

    def covers(self, addr: int, nbytes: int) -> bool:
        """Return whether any pin holds a byte of [addr, addr + nbytes)."""
        return any(_touch(pin.ranges, addr, addr + nbytes) for pin in self.held.values())


def _touch(ranges: Iterable[tuple[int, int]], lo: int, hi: int) -> bool:
    return any(addr < hi and addr + nbytes > lo for addr, nbytes in ranges)
