"""A file drawn: its bytes, the device under them, ribbons for its extents, its folios above and its bios below.

    from labkit.widgets.extents import Extents
    Extents(m.trace)

Run, this module writes a page of a read that is typed out here, and says where.
"""

import sys
from collections.abc import Iterable
from functools import partial

from labkit.trace.events import (
    BlockBioQueue,
    BlockGetrq,
    BlockRqComplete,
    BlockRqIssue,
    IomapDioComplete,
    IomapDioRwBegin,
    IomapIterDstmap,
    IovIterZero,
    SysEnter,
    SysExit,
)
from labkit.trace.trace import Trace
from labkit.views import extents as view
from labkit.views.file_steps import file_story
from labkit.views.steps import NARROW, WIDE
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.timed import ACT, figure, placed

Row = tuple[int, int, int, str]
"""Offset in the file, bytes, byte of the device or -1, type."""
_LABEL = "The bytes of a file above, the device below, a ribbon for each extent; folios and bios as they come and go"
_LEGEND = {
    "mapped": "mapped", "hole": "hole", "unwritten": "unwritten", "delalloc": "delalloc", "inline": "inline",
    "shared": "shared", "zero": "zeros, nobody's data", "uptodate": "folio, uptodate", "dirty": "dirty",
    "writeback": "writeback", "bio": "bio",
}  # fmt: skip


def scene(trace: Trace, layout: Iterable[Row] = ()) -> Scene:
    """Return the scene of the file that `trace` reads or writes; `layout` is what is known of it before."""
    rows = tuple(layout)
    pictures = {"wide": view.extents(trace, rows, WIDE), "narrow": view.extents(trace, rows, NARROW)}
    told = file_story(trace, rows)
    head, under = view.headline(trace, told)
    drawn = set(pictures["wide"].shapes["role"])
    there = bool(pictures["wide"].steps)
    done = [bio.done for bio in told.bios if bio.done <= len(told.told)]
    return Scene(
        head=head,
        under=under,
        label=_LABEL,
        steps=pictures["wide"].steps,
        figures={name: partial(figure, picture, _LABEL) for name, picture in pictures.items() if there},
        data=dict(placed(pictures)),
        legend=[(f"x-{role}", text) for role, text in _LEGEND.items() if role in drawn],
        poster=max(max(done) - 1, 0) if done else max(len(told.told) - 1, 0),
    )


class Extents(Staged):
    """A file in a notebook: what `trace` did to it. `layout`: (offset, bytes, byte of the device or -1, type)."""

    act = ACT
    _esm = script(ACT, "host.js")
    _css = style()

    def __init__(self, trace: Trace, layout: Iterable[Row] = (), theme: Theme = "auto") -> None:
        """Show the file of `trace`."""
        super().__init__(scene(trace, layout), theme)


def sample() -> Trace:
    """Return a direct read, typed out: two mapped extents, a hole and an unwritten one between them."""
    size = 98304
    return Trace((
        SysEnter(0, 1, "pread64", 3, 0x7F00_0000_0000, size, 0),
        IomapDioRwBegin(500, 1, 12, size, 0, size),
        IomapIterDstmap(600, 1, 12, 1 << 20, 0, 32768, "mapped"),
        BlockBioQueue(700, 1, 1, 2048, 64, 8, 0), BlockGetrq(800, 1, 1, 1, 0, 2048, 64, 8),
        IomapIterDstmap(900, 1, 12, -1, 32768, 24576, "hole"), IovIterZero(1700, 1, 32768, 24576),
        IomapIterDstmap(1800, 1, 12, 8 << 20, 57344, 16384, "unwritten"), IovIterZero(2600, 1, 57344, 16384),
        IomapIterDstmap(2700, 1, 12, 4 << 20, 73728, 24576, "mapped", "shared"),
        BlockBioQueue(2800, 1, 2, 8192, 48, 6, 73728), BlockGetrq(2900, 1, 2, 2, 1, 8192, 48, 6),
        BlockRqIssue(3300, 1, 1, 0, 2048, 64), BlockRqIssue(3600, 1, 2, 1, 8192, 48),
        BlockRqComplete(71_000, 1, 1, 0, 2048, 64, 0), BlockRqComplete(74_000, 1, 2, 1, 8192, 48, 0),
        IomapDioComplete(75_000, 1, 12, 0, 0, size), SysExit(75_100, 1, "pread64", size),
    ), meta={"kernel": "7.3"})  # fmt: skip


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(sample()), ACT)}\n")


if __name__ == "__main__":
    main()
