"""A load drawn: how many requests there are at once, which units of the device serve them, and how long each takes.

    from labkit.widgets.depth import Depth
    Depth(m.trace)

Run, this module writes a page of twelve reads that are typed out here, and says where.
"""

import sys
from functools import partial

from labkit.trace.events import (
    BlkMqRqTimedOut,
    BlockGetrq,
    BlockRqComplete,
    BlockRqIssue,
    DeviceDma,
    DeviceStart,
    Fault,
    Record,
)
from labkit.trace.trace import Trace
from labkit.views import depth as view
from labkit.views.loads import Load, load
from labkit.views.steps import NARROW, WIDE
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.timed import ACT, figure, placed

_LABEL = "Requests at once over time, the units of the device that serve them, and a histogram of how long they took"
_LEGEND = {
    "area": "with the driver", "waits": "waits in the queue", "cached": "unit busy", "share": "how busy units are",
    "cut": "something breaks", "full": "ends in an error",
}  # fmt: skip
_METERS = {"depth": "requests", "busy": "units busy", "done": "done"}


def scene(trace: Trace) -> Scene:
    """Return the scene of the requests of `trace`."""
    told = load(trace)
    pictures = {"wide": view.depth(trace, WIDE), "narrow": view.depth(trace, NARROW)}
    head, under = view.headline(told)
    steps = pictures["wide"].steps
    drawn = set(pictures["wide"].shapes["role"])
    meters = {name: [getattr(told, name).at(t) for t in told.stops] for name in _METERS}
    return Scene(
        head=head,
        under=under,
        label=_LABEL,
        steps=steps,
        figures={name: partial(figure, picture, _LABEL) for name, picture in pictures.items() if steps},
        data=placed(pictures) | {"meters": meters},
        legend=[(f"x-{role}", text) for role, text in _LEGEND.items() if role in drawn],
        meters=_METERS if steps else {},
        poster=_poster(told),
    )


def _poster(told: Load) -> int:
    """Return the step to open at: where something breaks last, else in the middle."""
    if told.wrong:
        return next((i for i, t in enumerate(told.stops) if t >= told.wrong[-1].t), 0)
    return len(told.stops) // 2


class Depth(Staged):
    """Queue depth and latency in a notebook: of one trace."""

    act = ACT
    _esm = script(ACT, "host.js")
    _css = style()

    def __init__(self, trace: Trace, theme: Theme = "auto") -> None:
        """Show `trace`."""
        super().__init__(scene(trace), theme)


def sample() -> Trace:
    """Return twelve reads on four dies, typed out, eight at a time; a command of the last one is lost."""
    out: list[Record] = []
    free = [0, 0, 0, 0]
    for rq in range(1, 13):
        got, unit = 1_000 * rq + 70_000 * (rq > 8), rq * 3 % 4  # noqa: PLR2004 - eight at a time
        start = max(got + 900, free[unit])
        free[unit] = end = start + 61_000 + 2_500 * (rq % 5)
        sector = 8 * rq
        out += [BlockGetrq(got, rq, rq, rq, rq % 8, sector, 8, 1), BlockRqIssue(got + 700, rq, rq, rq % 8, sector, 8)]
        out.append(DeviceStart(start, rq, rq, unit))
        if rq < 12:  # noqa: PLR2004 - the last one
            out += [
                DeviceDma(end, rq, rq, write=False, len=4096),
                BlockRqComplete(end + 900, rq, rq, rq % 8, sector, 8, 0),
            ]
    lost, late = 90_000, 30_000_000_000
    out += [Fault(lost, 12, "timeout", "the drive forgets a command"), BlkMqRqTimedOut(late, 12, 12, "abort"),
            BlockRqComplete(late + 90_000, 12, 12, 4, 96, 8, -5)]  # fmt: skip
    return Trace(tuple(sorted(out, key=lambda rec: rec.t)), meta={"kernel": "7.3"})


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(sample()), ACT)}\n")


if __name__ == "__main__":
    main()
