"""A trace becomes a headline: what the IO was, and how it ended."""

from typing import NamedTuple

from labkit.scatter.payload import run_length
from labkit.trace.events import CopyFolio, GupPin, MmPageAlloc
from labkit.trace.trace import Trace
from labkit.units import PAGE_SIZE, human_bytes, human_ns
from labkit.views.captions import device_name, scenario
from labkit.views.journey import Io, Journey
from labkit.views.policies import HOW
from labkit.views.words import capital, count, errno_name, errno_sentence


class Title(NamedTuple):
    """A headline and the sentences under it."""

    head: str
    under: str


def title(trace: Trace, trip: Journey) -> Title:
    """Return the headline of `trace`."""
    if not trace.records:
        return Title("Nothing happened yet", "This trace holds no records: run an IO, and its journey appears here.")
    if not trip.ios:
        return Title("No IO in this trace", f"It holds {count(len(trace), 'record')}, and no system call.")
    way = _way(trace)
    head = _one(trip.ios[0], trip, way) if len(trip.ios) == 1 else _many(trip, way)
    return Title(head, _under(trace, trip))


def _kind(io: Io) -> str:
    return "write" if "write" in io.name else "read"


def _ranges(trip: Journey) -> str:
    """Return how many physical ranges the buffer has, joined where they touch, whichever currency carried them."""
    return count(len(run_length([(pin.pa, pin.nbytes) for pin in trip.phyrs])), "physical range")


def _one(io: Io, trip: Journey, way: str) -> str:
    what = f"One {human_bytes(io.nbytes)} {way} {_kind(io)}"
    if io.ret is not None and io.ret < 0:
        return f"{what}, ended by {errno_name(io.ret)}"
    return f"{what}, {_ranges(trip)}" if way == "direct" else f"{what}, through the page cache"


def _way(trace: Trace) -> str:
    """Return 'buffered' for IO that is copied from or to the page cache, else 'direct'."""
    return "buffered" if trace.of(CopyFolio) and not trace.of(GupPin) else "direct"


def _many(trip: Journey, way: str) -> str:
    kinds = {_kind(io) for io in trip.ios if io.nbytes}
    noun = f"{way} {kinds.pop()}" if len(kinds) == 1 else f"{way} IO"
    total = human_bytes(sum(io.nbytes for io in trip.ios))
    found = _ranges(trip) if way == "direct" else "through the page cache"
    return f"{capital(count(sum(bool(io.nbytes) for io in trip.ios), noun))}, {total}, {found}"


def _under(trace: Trace, trip: Journey) -> str:
    failed = next((io for io in trip.ios if io.ret is not None and io.ret < 0), None)
    parts = [_how(trip), count(len({com.rq for com in trip.commands}), "request") + f" to {device_name(trace)}"]
    if failed:
        said = trace.meta.get("error")
        parts = [f"the system call stopped short: {said if isinstance(said, str) else errno_sentence(failed.ret or 0)}"]
    elif (last := trip.ios[-1]).ret is not None:
        took = trace.records[last.exit].t - trace.records[trip.ios[0].enter].t
        parts.append(f"{sum(io.ret or 0 for io in trip.ios):,} bytes in {human_ns(took)} of {_clock(trace)} time")
    else:
        parts.append("not finished when the trace ends")
    knobs = [text for text in (_system(trace), _iommu(trace), _folios(trace)) if text]
    sentences = [parts, knobs, _recorded(trace)]
    return " ".join(f"{capital(', '.join(words))}." for words in sentences if words)


def _recorded(trace: Trace) -> list[str]:
    """Say so where the trace is a recording of a real run: when, and on which kernel."""
    made = trace.meta.get("recorded")
    if not isinstance(made, dict):
        return []
    when = f"recorded on {made['date']}" if made.get("date") else "recorded"
    return [when, f"Linux {made.get('kernel')}"]


def _how(trip: Journey) -> str:
    pins = {pin.pin for pin in trip.phyrs}
    if not pins:
        return "nothing pinned"
    how = HOW.get(trip.phyrs[0].policy, "pinned")
    return how + ("" if len(pins) == 1 else f" in {count(len(pins), 'step')}")


def _clock(trace: Trace) -> str:
    device = trace.meta.get("device")
    return str(device.get("clock", "machine")) if isinstance(device, dict) else "machine"


def _system(trace: Trace) -> str:
    value = scenario(trace, "system")
    return f"system {value}" if value else ""


def _folios(trace: Trace) -> str:
    """Return the sizes of the folios that came, not of those that a scenario asked for: a task may map others."""
    orders = sorted({rec.order for rec in trace.of(MmPageAlloc)})
    return f"folios of {' and '.join(human_bytes(PAGE_SIZE << order) for order in orders)}" if orders else ""


def _iommu(trace: Trace) -> str:
    value = scenario(trace, "iommu") if scenario(trace, "device") != "loop" else ""
    return {"": "", "off": "no IOMMU"}.get(value, f"IOMMU {value}")
