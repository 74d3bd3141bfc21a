"""The model beside the kernel, event by event: two axes of time, what both did joined, what one did alone lit.

    from labkit.widgets.sequence import Sequence
    Sequence(beside.rows, beside.counts)

Run, this module writes a page of a read that is typed out here, and says where.
"""

import sys
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from labkit.views import sequence as view
from labkit.views.event_rows import CountLike, RowLike, headline
from labkit.views.steps import NARROW, WIDE
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.timed import ACT, figure, placed

_LABEL = "Events of the kernel on an axis of time above, those of the model below, a line between what both did"
_LEGEND = {
    "mapped": ("x-mapped", "on both sides (=)"), "cut": ("x-cut", "on one side only (+ kernel, - model)"),
    "vec1": ("x-own", "told by one side alone (·)"), "edge": ("x-edge", "looked at"),
}  # fmt: skip
_LIT = ("kernel only", "model only", "differ")


def scene(rows: Iterable[RowLike], counts: Iterable[CountLike] = ()) -> Scene:
    """Return the scene of the events in `rows` and of `counts` (name, kernel, model)."""
    found, told = list(rows), list(counts)
    pictures = {"wide": view.sequence(found, told, WIDE), "narrow": view.sequence(found, told, NARROW)}
    head, under = headline(found, told)
    steps = pictures["wide"].steps
    drawn = set(pictures["wide"].shapes["role"])
    return Scene(
        head=head,
        under=under,
        label=_LABEL,
        steps=steps,
        figures={name: partial(figure, picture, _LABEL) for name, picture in pictures.items() if steps},
        data=dict(placed(pictures)),
        legend=[look for role, look in _LEGEND.items() if role in drawn],
        poster=next((i for i, step in enumerate(steps) if step.layer in _LIT), 0),
    )


class Sequence(Staged):
    """The events of a kernel and of a model in a notebook: rows of both, and counts (name, kernel, model)."""

    act = ACT
    _esm = script(ACT, "host.js")
    _css = style()

    def __init__(self, rows: Iterable[RowLike], counts: Iterable[CountLike] = (), theme: Theme = "auto") -> None:
        """Show them side by side."""
        super().__init__(scene(rows, counts), theme)


class _Count(NamedTuple):
    name: str
    kernel: int | None
    model: int | None
    certain: bool = True


class _Row(NamedTuple):
    kernel_ns: int | None
    kernel: str
    model_ns: int | None
    model: str
    mark: str


def sample() -> tuple[list[RowLike], list[CountLike]]:
    """Return a read of 1 MiB that is split, typed out: a requeue in the kernel alone, an unplug in the model alone."""
    both = (
        (0, 0, "sys_enter_pread64"), (21_400, 9_800, "block_bio_queue 2048+2048"),
        (25_900, 12_100, "block_split 2048 / 3072"), (27_300, 12_600, "block_getrq 2048+1024"),
        (28_100, 13_000, "block_plug"), (28_800, 13_300, "block_unplug 1"),
        (29_600, 14_100, "block_rq_issue 2048+1024"), (58_000, 16_000, "block_getrq 3072+1024"),
        (59_200, 16_600, "block_rq_issue 3072+1024"), (912_000, 130_000, "block_rq_complete 2048+1024"),
        (1_101_000, 164_000, "block_rq_complete 3072+1024"), (1_130_000, 168_500, "sys_exit_pread64 1048576"),
    )  # fmt: skip
    rows = [_Row(kernel, text, model, text, "same") for kernel, model, text in both]
    rows.insert(7, _Row(44_000, "block_rq_requeue 2048+1024", None, "", "only there"))
    rows.insert(11, _Row(None, "", 131_000, "block_unplug 0", "only here"))
    rows.insert(1, _Row(None, "", 1_200, "GupPin ranges=256", "only here"))
    counts = [_Count("bios", 1, 1), _Count("splits", 1, 1), _Count("requests", 2, 2), _Count("requeues", 1, 0)]
    return list(rows), [*counts, _Count("plugs", 1, 2, certain=False), _Count("pins", None, 256)]


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(*sample()), ACT)}\n")


if __name__ == "__main__":
    main()
