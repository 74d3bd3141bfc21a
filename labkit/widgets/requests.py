"""Bios and requests drawn: vectors to scale, cuts and their limits, what was merged, plugs and tags.

    from labkit.widgets.requests import Requests
    Requests(m.trace)
    Requests({"page": today.trace, "phyr": proposed.trace})

Run, this module writes a page of two systems that are typed out here, and says where.
"""

import sys
from collections.abc import Mapping
from functools import partial

from labkit.trace.events import (
    BlockBioBackmerge,
    BlockBioQueue,
    BlockGetrq,
    BlockPlug,
    BlockRqComplete,
    BlockRqIssue,
    BlockSplit,
    BlockUnplug,
    Record,
)
from labkit.trace.trace import Trace
from labkit.views import requests as view
from labkit.views.pieces import pieces
from labkit.views.steps import NARROW, WIDE
from labkit.views.words import capital, count
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.timed import ACT, figure, placed

Traces = Trace | Mapping[str, Trace]
_LABEL = (
    "For each system the vectors of its bios, the bios, and the requests that they become, over the bytes of the IO"
)
_UNDER = "A block is as wide as what it holds."
_LEGEND = {"vec0": "vectors", "bio": "bio", "cut": "cut by a limit", "rq0": "request, with the driver", "plug": "plug"}


def scene(traces: Traces) -> Scene:
    """Return the scene of one trace, or of several by the names of their systems."""
    named = {"": traces} if isinstance(traces, Trace) else dict(traces)
    pictures = {"wide": view.requests(named, WIDE), "narrow": view.requests(named, NARROW)}
    found = {name: pieces(trace) for name, trace in named.items()}
    told = "; ".join(
        f"{name}: {count(each.requests, 'request')}" if name else view.summary(each) for name, each in found.items()
    )
    roles, steps = set(pictures["wide"].shapes["role"]), pictures["wide"].steps
    issued = [i for i, step in enumerate(steps) if step.function == "blk_mq_start_request"]
    return Scene(
        head=capital(told) if told else "No bio",
        under=_UNDER if "" in named else f"All systems begin at the same instant, over the same bytes. {_UNDER}",
        label=_LABEL,
        steps=steps,
        figures={name: partial(figure, picture, _LABEL) for name, picture in pictures.items() if steps},
        data=dict(placed(pictures)),
        legend=[(f"x-{role}", text) for role, text in _LEGEND.items() if role in roles or role == "rq0"],
        poster=issued[len(issued) // 2] if issued else max(len(steps) - 1, 0),
    )


class Requests(Staged):
    """Bios and requests in a notebook: of one trace, or of several by the names of their systems."""

    act = ACT
    _esm = script(ACT, "host.js")
    _css = style()

    def __init__(self, traces: Traces, theme: Theme = "auto") -> None:
        """Show `traces`."""
        super().__init__(scene(traces), theme)


def sample() -> dict[str, Trace]:
    """Return the same 64 KiB twice, typed out: sixteen vectors that are cut, and three bios that become one request."""
    cut: list[Record] = [BlockBioQueue(0, 1, 1, 64, 128, 16, 0)]
    for rq in range(1, 4):
        sector, n, t = 64 + 48 * (rq - 1), (48, 48, 32)[rq - 1], 200 * rq
        if rq < 3:  # noqa: PLR2004 - the rest is a request of itself
            why = "6 segments are all that max_segments=6 allows"
            cut.append(BlockSplit(t, 1, 1, sector, sector + n, "SPLIT-3d", why))
        cut += [
            BlockGetrq(t + 50, 1, 1, rq, rq - 1, sector, n, n // 8),
            BlockRqIssue(t + 150, 1, rq, rq - 1, sector, n),
        ]
    cut += [
        BlockRqComplete(60_000 + rq, 1, rq, rq - 1, 64 + 48 * (rq - 1), (48, 48, 32)[rq - 1], 0) for rq in (1, 2, 3)
    ]
    one: tuple[Record, ...] = (
        BlockBioQueue(0, 1, 1, 64, 48, 1, 0), BlockGetrq(50, 1, 1, 1, 0, 64, 48, 1), BlockPlug(60, 1),
        BlockBioQueue(200, 1, 2, 112, 48, 1, 24576), BlockBioBackmerge(260, 1, 2, 1, 112, 48, 1),
        BlockBioQueue(400, 1, 3, 160, 32, 2, 49152), BlockBioBackmerge(460, 1, 3, 1, 160, 32, 2),
        BlockUnplug(600, 1, 1), BlockRqIssue(700, 1, 1, 0, 64, 128), BlockRqComplete(58_000, 1, 1, 0, 64, 128, 0),
    )  # fmt: skip
    return {"page": Trace(tuple(cut), meta={"kernel": "7.3"}), "phyr": Trace(one, meta={"kernel": "7.3"})}


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(sample()), ACT)}\n")


if __name__ == "__main__":
    main()
