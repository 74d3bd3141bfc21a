"""Events of the model beside those of the kernel become the lines that are shown: which side has each, what is said."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

from labkit.units import human_ns
from labkit.views.steps import Step
from labkit.views.words import capital, count

MOST = 300
"""Rows that are shown one by one; of more, stretches in which nothing differs are folded."""
QUIET = ("both", "own")
"""Sides that are no difference, and are not lit."""
_KEPT = 12
"""Rows at each end of a folded stretch that stay."""
TOLD = frozenset({
    "block_bio_queue", "block_split", "block_getrq", "block_bio_backmerge", "block_bio_frontmerge",
    "block_bio_complete", "block_plug", "block_unplug", "block_rq_insert", "block_rq_issue", "block_rq_requeue",
    "block_rq_complete", "iomap_dio_rw_begin", "iomap_iter_dstmap", "iomap_dio_complete", "io_uring_submit_req",
    "io_uring_queue_async_work", "io_uring_complete", "nvme_setup_cmd", "nvme_complete_rq", "sys_enter", "sys_exit",
})  # fmt: skip
"""Tracepoints that the model has a record of: what else there is, one side alone can tell."""
_OF_A_THREAD = ("block_plug", "block_unplug")
"""They name no device, so that they are recorded of the submitter alone, and not where a worker does all the work."""
_WHERE = {
    "both": "the same on both sides", "kernel": "only in the kernel", "model": "only in the model",
    "differ": "not the same", "own": "told by this side alone",
}  # fmt: skip


class RowLike(Protocol):
    """As much of a row as the picture needs; None and "" on the side that has no such event.

    `mark` is "same" where both have it.
    """

    @property
    def kernel_ns(self) -> int | None: ...  # noqa: D102 - the names say it, here and below
    @property
    def kernel(self) -> str: ...  # noqa: D102
    @property
    def model_ns(self) -> int | None: ...  # noqa: D102
    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def mark(self) -> str: ...  # noqa: D102


class Line(NamedTuple):
    """A row that is shown, and how many rows it stands for. `side`: both, kernel, model, differ, own.

    "own" is what only one side can tell: a record of the model that is no tracepoint, a tracepoint that is no record.
    """

    kernel_ns: int | None
    kernel: str
    model_ns: int | None
    model: str
    side: str
    rows: int = 1
    upto: tuple[int | None, int | None] = (None, None)
    """Of a line that stands for many: when the last of them is, on each side."""


class CountLike(Protocol):
    """How many of something the kernel had, and the model; None where that is not known.

    `certain`: whether both have to be equal.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - the names say it, here and below
    @property
    def kernel(self) -> int | None: ...  # noqa: D102
    @property
    def model(self) -> int | None: ...  # noqa: D102
    @property
    def certain(self) -> bool: ...  # noqa: D102


def off(one: CountLike) -> bool:
    """Return whether a count is another than it had to be."""
    return one.certain and None not in (one.kernel, one.model) and one.kernel != one.model


def lines(rows: Iterable[RowLike]) -> list[Line]:
    """Return the lines that are shown: all rows, or of many those that differ and the ends of what is quiet."""
    found = sided(rows)
    if len(found) <= MOST:
        return found
    out: list[Line] = []
    for quiet, group in groupby(found, key=lambda line: line.side in QUIET):
        mine = list(group)
        if not quiet or len(mine) <= 2 * _KEPT + 1:
            out += mine
            continue
        folded = mine[_KEPT:-_KEPT]
        out += [*mine[:_KEPT], _fold(folded), *mine[-_KEPT:]]
    return out


def sided(rows: Iterable[RowLike]) -> list[Line]:
    """Return a line for each row, with the side that it is on."""
    every = list(rows)
    unseen = {name for name in _OF_A_THREAD if not any(row.kernel.startswith(name) for row in every)}
    return [Line(row.kernel_ns, row.kernel, row.model_ns, row.model, _side(row, unseen)) for row in every]


def _side(row: RowLike, unseen: set[str]) -> str:
    """Return on which side a row is; the tracepoints `unseen` were not recorded of whoever did it."""
    if row.kernel and row.model:
        return "both" if row.mark == "same" else "differ"
    name = (row.kernel or row.model).partition(" ")[0]
    if name.startswith(("sys_enter_", "sys_exit_")) and "io_uring" not in name:
        name = "_".join(name.split("_")[:2])
    if name not in TOLD or name in unseen:
        return "own"
    return "kernel" if row.kernel else "model"


def _fold(mine: Sequence[Line]) -> Line:
    """Return the line that stands for `mine`, in which nothing differs."""
    text = f"{len(mine):,} more, nothing differs"
    (first, last), (begin, end) = (_ends([getattr(line, name) for line in mine]) for name in ("kernel_ns", "model_ns"))
    return Line(first, text, begin, text, "both", len(mine), (last, end))


def _ends(times: Sequence[int | None]) -> tuple[int | None, int | None]:
    """Return the first and the last time that is known; None twice where none is."""
    known = [t for t in times if t is not None]
    return (known[0], known[-1]) if known else (None, None)


def tip(line: Line) -> tuple[str, ...]:
    """Return what is said of a line that is pointed at."""
    out = [_WHERE[line.side]]
    if line.kernel_ns is not None:
        out.append(f"kernel, after {human_ns(line.kernel_ns)}: {line.kernel}")
    if line.model_ns is not None:
        out.append(f"model, after {human_ns(line.model_ns)}: {line.model}")
    return tuple(out)


def step(line: Line) -> Step:
    """Return what is said at a line."""
    clock = human_ns(line.kernel_ns if line.kernel_ns is not None else line.model_ns or 0)
    name = (line.kernel or line.model).partition(" ")[0]
    if line.rows > 1:
        return Step(clock, "both", f"{line.rows:,} events more in which nothing differs.", "")
    if line.side == "both":
        ends = f"kernel after {human_ns(line.kernel_ns or 0)}, model after {human_ns(line.model_ns or 0)}"
        return Step(clock, "both", f"{line.kernel}: {ends}.", name)
    if line.side == "differ":
        return Step(clock, "differ", f"The kernel says {line.kernel}, the model says {line.model}.", name)
    if line.side == "own":
        who = "kernel" if line.kernel else "model"
        return Step(clock, f"{who}'s own", f"{line.kernel or line.model}: only the {who} can tell of this.", name)
    text = f"{line.kernel or line.model}: {_WHERE[line.side]}."
    return Step(clock, f"{line.side} only", text, name)


def headline(rows: Iterable[RowLike], counts: Iterable[CountLike] = ()) -> tuple[str, str]:
    """Return how much of the two is the same, and what is not."""
    sides = [line.side for line in sided(rows)]
    if not sides:
        return "No events", "Neither the kernel nor the model did anything that is traced."
    same, own = sides.count("both"), sides.count("own")
    both = len(sides) - own
    head = f"{same:,} of {count(both, 'event')} {'is' if same == 1 else 'are'} the same"
    if same == both:
        head = f"All {same:,} events that both tell are the same" if same > 1 else "The one event is the same"
    said = {"kernel": "only the kernel has", "model": "only the model has", "differ": "both have otherwise"}
    parts = [f"{text} {count(sides.count(side), 'event')}" for side, text in said.items() if side in sides]
    if own:
        parts.append(f"{count(own, 'event')} more that one side alone can tell")
    wrong = [one.name for one in counts if off(one)]
    parts.append(f"counts that differ: {', '.join(wrong)}" if wrong else "every count is equal")
    return head, capital("; ".join(parts)) + "."
