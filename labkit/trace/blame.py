"""Who holds this page? For any frame at any time: who, since when, for which IO, and which event lets go of it."""

from typing import NamedTuple

from labkit.trace.events import GupUnpin, SysEnter
from labkit.trace.snapshot import PinState
from labkit.trace.trace import Trace
from labkit.units import Nsec, Pfn, human_ns


class Holder(NamedTuple):
    """One who holds a frame: the pin, the call whose IO it is for, and when a GupUnpin lets go of it, if any does."""

    pin: PinState
    call: str
    until: Nsec | None

    def __str__(self) -> str:
        """Return it as a sentence."""
        who = f"IO {self.pin.io} ({self.call})" if self.call else "nobody's IO"
        end = f"until GupUnpin at {human_ns(self.until)}" if self.until is not None else "and no event lets go of it"
        return f"{who} since {human_ns(self.pin.since)}, policy {self.pin.policy}, {end}"


def who_holds(trace: Trace, pfn: int, t: int) -> tuple[Holder, ...]:
    """Return every holder of frame `pfn` at `t` ns, first come first; what the trace tells later is known already."""
    pins = trace.state_at(Nsec(t)).holders(Pfn(pfn))
    calls = {rec.io: rec.name for rec in trace.of(SysEnter)}
    ends = {rec.token: Nsec(rec.t) for rec in trace.of(GupUnpin)}
    return tuple(Holder(pin, calls.get(pin.io, ""), ends.get(pin.token)) for pin in pins)
