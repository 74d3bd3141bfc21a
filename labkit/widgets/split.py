"""A split drawn: one bio, vector by vector, how full each limit is, and where it is cut by which rule.

    from labkit.widgets.split import Split
    Split(walked(vecs, sector, limits), limits, sector)

Run, this module writes a page of a walk that is typed out here, and says where.
"""

import sys
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from labkit.views import split as view
from labkit.views.split import LimitsLike, TakenLike
from labkit.views.steps import NARROW, WIDE
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.timed import ACT, figure, placed

_LABEL = "A bio in memory, its vectors to scale, the pieces that they make, the device under them, and two gauges"
_LEGEND = {
    "rq0": "taken, in the hue of its piece",
    "row": "ahead",
    "cut": "cut by a limit",
    "edge": "looked at; boundary",
}


def scene(taken: Iterable[TakenLike], limits: LimitsLike, sector: int = 0) -> Scene:
    """Return the scene of the walk `taken` over a bio that begins at `sector`."""
    rows = tuple(taken)
    pictures = {"wide": view.split(rows, limits, sector, WIDE), "narrow": view.split(rows, limits, sector, NARROW)}
    head, under = view.headline(rows, max((row.start + row.nbytes for row in rows), default=0))
    cuts = [i for i, row in enumerate(rows) if not row.nbytes and i < len(pictures["wide"].steps)]
    return Scene(
        head=head,
        under=under,
        label=_LABEL,
        steps=pictures["wide"].steps,
        figures={name: partial(figure, picture, _LABEL) for name, picture in pictures.items() if rows},
        data=dict(placed(pictures)),
        legend=[(f"x-{role}", text) for role, text in _LEGEND.items()],
        poster=cuts[0] if cuts else max(len(pictures["wide"].steps) - 1, 0),
    )


class Split(Staged):
    """The split of one bio in a notebook: `taken` are its steps, `limits` those of the queue."""

    act = ACT
    _esm = script(ACT, "host.js")
    _css = style()

    def __init__(self, taken: Iterable[TakenLike], limits: LimitsLike, sector: int = 0, theme: Theme = "auto") -> None:
        """Show the walk."""
        super().__init__(scene(taken, limits, sector), theme)


class _Step(NamedTuple):
    piece: int
    vec: int
    start: int
    addr: int
    nbytes: int
    segments: int
    total: int
    most: int
    rule: str = ""
    why: str = ""


class _Limits(NamedTuple):
    max_segments: int
    max_sectors: int
    chunk_sectors: int
    virt_boundary_mask: int


def sample() -> tuple[list[TakenLike], LimitsLike, int]:
    """Return a bio of 64 KiB at sector 48, typed out: two cuts, the first for its segments, the other at a chunk."""
    steps = [_Step(0, i, 4096 * i, 0x4000_0000 + 0x3000 * i, 4096, i + 1, 4096 * (i + 1), 40960) for i in range(4)]
    why = "4 segments are all that max_segments=4 allows"
    steps.append(_Step(0, 3, 16384, 0, 0, 4, 16384, 40960, "SPLIT-3d", why))
    steps.append(_Step(1, 4, 16384, 0x5000_0000, 24576, 1, 24576, 24576))
    why = "24576 bytes end on a block or chunk, max_sectors=80 would not"
    steps.append(_Step(1, 4, 40960, 0, 0, 1, 24576, 24576, "SPLIT-2", why))
    steps.append(_Step(2, 4, 40960, 0x5000_6000, 16384, 1, 16384, 40960))
    for i, (start, nbytes) in enumerate(((57344, 4096), (61440, 2048), (63488, 2048))):
        steps.append(_Step(2, 5 + i, start, 0x6000_0000 + (i << 16), nbytes, 2 + i, start + nbytes - 40960, 40960))
    return list(steps), _Limits(4, 80, 128, 4095), 48


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(*sample()), ACT)}\n")


if __name__ == "__main__":
    main()
