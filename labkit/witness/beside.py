"""Model beside kernel, event by event: what both did, with the time of each, and what one of them alone was seen to do.

Plain values, for whoever wants to show them.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import accumulate
from typing import Any, NamedTuple

from labkit.trace.events import BlockBioQueue, Record
from labkit.trace.meters import pins
from labkit.witness.capture import Capture
from labkit.witness.check import recorded
from labkit.witness.like import Like
from labkit.witness.tracepoints import BY_RECORD, Seen, kernel_events, model_events

Both = tuple[Seen | None, Seen | None]
"""An event of the kernel, and that of the model which is the same; None for none."""
SAME, THERE, HERE = "same", "only there", "only here"


class Pair(NamedTuple):
    """One row: ns since the call began and the event, in the kernel and in the model; None and "" for nothing.

    `mark` is "same", "only there" (the kernel) or "only here" (the model). `event` counts in the capture's events,
    `record` in the trace's records; -1 for none.
    """

    kernel_ns: int | None
    kernel: str
    model_ns: int | None
    model: str
    mark: str
    event: int = -1
    record: int = -1


class Count(NamedTuple):
    """How many there were of something: by the kernel (None where that was not recorded), and in the model.

    `certain`: whether the model has to have as many. Where tags run out or a scheduler sorts, time decides how often a
    plug goes (R15, R16); of several workers of a ring, who merges with whom, and of a ring on a file all but the bytes
    (R18); the counters of pins are the whole machine's.
    """

    name: str
    kernel: int | None
    model: int
    certain: bool = True

    @property
    def residual(self) -> int | None:
        """How many more the model has; None where nobody knows."""
        return None if self.kernel is None else self.model - self.kernel


class Beside(NamedTuple):
    """The two, side by side. `rows` are in the order of what both did; `counts` are bios, splits, requests, ..."""

    rows: tuple[Pair, ...]
    counts: tuple[Count, ...]

    @property
    def exact(self) -> bool:
        """Whether every count that was recorded, and is certain, is the model's."""
        return not any(count.residual for count in self.counts if count.certain)


def beside(capture: Capture, like: Like) -> Beside:
    """Lay what `capture` has recorded beside what `like`, its machine, did. Raises BadInput for a broken record.

    What the submitter does (and the worker of its ring) is aligned in its order; completions, which come when they
    come, by what they complete.
    """
    there, here = kernel_events(capture), model_events(like.trace.records)
    return Beside(tuple(_rows(there, here)), tuple(_counts(capture, there, like)))


def _rows(there: Sequence[Seen], here: Sequence[Seen]) -> Iterator[Pair]:
    """Yield the rows: those that are aligned in order, and all others where their time is."""
    ordered = _aligned([seen for seen in there if seen.ordered], [seen for seen in here if seen.ordered])
    loose = _by_key([seen for seen in there if not seen.ordered], [seen for seen in here if not seen.ordered])
    times = list(accumulate((a.at if a else -1 for a, _ in ordered), max))
    places = list(accumulate((b.at if b else -1 for _, b in ordered), max))
    slots: dict[int, list[Both]] = defaultdict(list)
    for pair in loose:
        kernel, model = pair
        at = bisect_right(times, kernel.at) if kernel else bisect_right(places, model.at) if model else 0
        slots[at].append(pair)
    for at in range(len(ordered) + 1):
        yield from (_pair(*each) for each in _in_time(slots.get(at, ())))
        if at < len(ordered):
            yield _pair(*ordered[at])


def _in_time(pairs: Sequence[Both]) -> list[Both]:
    """Return `pairs` in the kernel's order, and what the model alone has before what comes later there."""
    rows = [pair for pair in pairs if pair[0]]
    for pair in pairs:
        if pair[0] is None and pair[1] is not None:
            at = pair[1].at
            later = (i for i, (_, model) in enumerate(rows) if model is not None and model.at > at)
            rows.insert(next(later, len(rows)), pair)
    return rows


def _aligned(there: Sequence[Seen], here: Sequence[Seen]) -> list[Both]:
    """Return what is the same in both orders as pairs, and between them what is in one alone.

    What is there but once on both sides holds the rest (a patience diff): thousands of plugs are all alike.
    """
    rows: list[Both] = []
    i = j = 0
    for a, b in (*_anchors([seen.key for seen in there], [seen.key for seen in here]), (len(there), len(here))):
        rows += _between(there[i:a], here[j:b])
        rows += zip(there[a : a + 1], here[b : b + 1], strict=True)
        i, j = a + 1, b + 1
    return rows


def _anchors(there: Sequence[Any], here: Sequence[Any]) -> list[tuple[int, int]]:
    """Return the places, in both, of keys that each has once: as many as are in the same order."""
    once = {key: at for at, key in enumerate(here)}
    ours, theirs = Counter(here), Counter(there)
    pairs = [(at, once[key]) for at, key in enumerate(there) if theirs[key] == 1 == ours[key]]
    ends, before, tails = list[int](), list[int](), list[int]()
    for number, (_, at) in enumerate(pairs):  # the longest rising row: `tails` of rows of each length
        length = bisect_left(ends, at)
        before.append(tails[length - 1] if length else -1)
        ends[length : length + 1], tails[length : length + 1] = [at], [number]
    found, number = list[tuple[int, int]](), tails[-1] if tails else -1
    while number >= 0:
        found.append(pairs[number])
        number = before[number]
    return found[::-1]


def _between(there: Sequence[Seen], here: Sequence[Seen]) -> list[Both]:
    """Return the same for what lies between two anchors."""
    match = SequenceMatcher(None, [seen.key for seen in there], [seen.key for seen in here], autojunk=False)
    rows: list[Both] = []
    for kind, a, b, c, d in match.get_opcodes():
        if kind == "equal":
            rows += zip(there[a:b], here[c:d], strict=True)
        else:
            rows += [(seen, None) for seen in there[a:b]]
            rows += [(None, seen) for seen in here[c:d]]
    return rows


def _by_key(there: Iterable[Seen], here: Iterable[Seen]) -> Iterator[Both]:
    """Yield pairs of the same key, the first with the first; then what has no other."""
    waiting: dict[Any, deque[Seen]] = defaultdict(deque)
    for seen in here:
        waiting[seen.key].append(seen)
    for seen in there:
        others = waiting[seen.key]
        yield seen, others.popleft() if others else None
    for others in waiting.values():
        yield from ((None, seen) for seen in others)


def _pair(kernel: Seen | None, model: Seen | None) -> Pair:
    mark = SAME if kernel and model else THERE if kernel else HERE
    return Pair(
        kernel.ns if kernel else None, kernel.text if kernel else "", model.ns if model else None,
        model.text if model else "", mark, kernel.at if kernel else -1, model.at if model else -1,
    )  # fmt: skip


_COUNTED = (
    ("bios", "block_bio_queue"), ("splits", "block_split"), ("merges", "block_bio_backmerge"),
    ("front merges", "block_bio_frontmerge"), ("requests", "block_rq_issue"), ("plugs", "block_plug"),
    ("unplugs", "block_unplug"), ("completions", "block_rq_complete"),
)  # fmt: skip


_OF_A_THREAD = {"block_plug", "block_unplug"}
"""Tracepoints that name no device: those of a worker of the ring are nobody's."""

_OF_WORKERS = {"block_bio_backmerge", "block_bio_frontmerge", "block_rq_issue", "block_rq_complete", *_OF_A_THREAD}
"""What depends on who of several workers of a ring comes first (R18)."""


def _counts(capture: Capture, there: Sequence[Seen], like: Like) -> Iterator[Count]:
    """Yield how many there were of each thing; None where the capture does not tell."""
    records = like.trace.records
    seen, mine = Counter(each.name for each in there), Counter(type(rec).__name__ for rec in records)
    workers = max(seen["io_uring_queue_async_work"], mine["IoUringQueueAsyncWork"])
    loose = _uncertain(capture, mine["BlockRqIssue"], workers)
    for name, tracepoint in _COUNTED:
        unseen = capture.events is None or (tracepoint in _OF_A_THREAD and workers > 0)
        unseen |= tracepoint == "block_rq_complete" and not seen[tracepoint]  # nobody looked
        yield Count(name, None if unseen else seen[tracepoint], mine[BY_RECORD[tracepoint]], tracepoint not in loose)
    vecs = sum(rec.vecs for rec in like.trace.of(BlockBioQueue))
    yield Count("vectors", _vectors(capture), vecs, "block_bio_queue" not in loose)
    results = None if capture.result is None else sum(n for n in capture.result if isinstance(n, int) and n > 0)
    yield Count("bytes", results, sum(n for n in like.results if isinstance(n, int)))
    yield from _pins(capture, records)


def _uncertain(capture: Capture, requests: int, workers: int) -> set[str]:
    """Return the tracepoints of which the model need not have as many (see Count).

    Of a ring that works on a file not even bios are certain: what waits half done is sent again (R18).
    """
    sorts = capture.scheduler != "none" or requests > capture.queue_limits.nr_requests
    found = (_OF_A_THREAD if sorts else set()) | (_OF_WORKERS if workers > 1 else set())
    again = capture.device.path == "iomap" and capture.io[0].uring
    return {tracepoint for _, tracepoint in _COUNTED} if again else found


def _vectors(capture: Capture) -> int | None:
    """Return the vectors of all bios; None where they were not looked at, or not to the end. Raises BadInput."""
    if not capture.bios:
        return None
    seen = recorded(capture)
    return None if seen.cut else sum(len(vecs) for _, vecs in seen.bios or ())


def _pins(capture: Capture, records: Sequence[Record]) -> Iterator[Count]:
    """Yield pages pinned and let go of by the IO itself: a registration is none of its doing (io 0)."""
    mine = pins(rec for rec in records if rec.io)
    told = capture.pins or {}
    for name, key, model in (("pins", "acquired", mine.taken), ("unpins", "released", mine.released)):
        value = told.get(key)
        yield Count(name, value if isinstance(value, int) else None, model, certain=False)
