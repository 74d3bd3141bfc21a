"""A real buffer's memory drawn: where its user pages lie in physical memory, in runs and folios, and what bios took.

    from labkit.widgets.frames import Frames
    Frames(capture.layout.before, capture.layout.large_folios)

Run, this module writes a page of a buffer that is typed out here, and says where.
"""

import sys
from collections.abc import Iterable, Sequence
from functools import partial

from labkit.views import frame_facts
from labkit.views import frames as view
from labkit.views.steps import NARROW, WIDE
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.timed import ACT, figure, placed

Row = Sequence[int]
_LABEL = "User pages above, the frames behind them below, a ribbon for each run, folios outlined, a histogram of runs"
_LEGEND = {
    "mapped": ("x-mapped", "a run of pages"), "rq0": ("x-rq0", "each bio in a look of its own"),
    "vec0": ("x-several", "in several bios, or none"),
    "folio": ("x-folio", "a large folio"), "absent": ("pageless", "no frame"), "edge": ("x-edge", "looked at"),
}  # fmt: skip


def scene(
    layout: Iterable[Row], large: Iterable[Sequence[object]] = (), queued: Iterable[Sequence[object]] = ()
) -> Scene:
    """Return the scene of a buffer; the arguments are those of views.frames."""
    rows, blocks, taken = list(layout), list(large), list(queued)
    pictures = {"wide": view.frames(rows, blocks, taken, WIDE), "narrow": view.frames(rows, blocks, taken, NARROW)}
    head, under = frame_facts.headline(frame_facts.runs(rows), frame_facts.folios(blocks), frame_facts.bios(taken))
    drawn = set(pictures["wide"].shapes["role"])
    there = bool(pictures["wide"].steps)
    return Scene(
        head=head,
        under=under,
        label=_LABEL,
        steps=pictures["wide"].steps,
        figures={name: partial(figure, picture, _LABEL) for name, picture in pictures.items() if there},
        data=dict(placed(pictures)),
        legend=[look for role, look in _LEGEND.items() if role in drawn],
    )


class Frames(Staged):
    """The memory of a buffer in a notebook: (page address, first PFN or -1, pages), folios (head PFN, pages, flags).

    `queued`: the bios that it went into, [sector, [[physical address, bytes], ...]], where they are known.
    """

    act = ACT
    _esm = script(ACT, "host.js")
    _css = style()

    def __init__(
        self,
        layout: Iterable[Row],
        large: Iterable[Sequence[object]] = (),
        queued: Iterable[Sequence[object]] = (),
        theme: Theme = "auto",
    ) -> None:
        """Show the memory."""
        super().__init__(scene(layout, large, queued), theme)


def sample() -> tuple[list[Row], list[Sequence[object]], list[Sequence[object]]]:
    """Return a buffer of 45 pages, typed out: half a folio of 16 pages, two pages that are not there, and two bios."""
    base = 0x7F00_0000_0000
    runs = (
        (0x41200, 4),
        (0x40F00, 1),
        (0x40E80, 3),
        (0x48008, 8),
        (0x41300, 6),
        (-1, 2),
        (0x42000, 9),
        (0x3FF00, 7),
        (0x45000, 5),
    )
    rows, vecs, at = [], [], 0
    for pfn, pages in runs:
        rows.append((base + (at << 12), pfn, pages))
        vecs.append([pfn << 12, pages << 12])
        at += pages
    bios = [[2048, vecs[:5]], [2240, vecs[6:]]]
    return list(rows), [(0x48000, 16, ["COMPOUND_HEAD", "THP"])], list(bios)


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(*sample()), ACT)}\n")


if __name__ == "__main__":
    main()
