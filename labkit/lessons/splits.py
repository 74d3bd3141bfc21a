"""The questions of notebook 08: where bios are split, and what is merged."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.split import Taken, walked
from labkit.lessons import quiz
from labkit.lessons.quiz import Exercise, Question
from labkit.machine import Machine
from labkit.scatter.payload import Range
from labkit.trace.events import BlockBioBackmerge, BlockBioQueue, BlockRqIssue
from labkit.trace.trace import Trace
from labkit.units import PAGE_SIZE, SECTOR_SIZE, Sector, human_bytes

RULES = ("SPLIT-2", "SPLIT-3b", "SPLIT-3d", "none")
_BASE = 0x4000_0000


def pages(count: int, nbytes: int = PAGE_SIZE, *, gap: int = PAGE_SIZE, first: int = _BASE) -> tuple[Range, ...]:
    """Return `count` vectors of `nbytes` bytes, each at the start of a page, with `gap` bytes of others' between."""
    step = -(-nbytes // PAGE_SIZE) * PAGE_SIZE + gap
    return tuple((first + i * step, nbytes) for i in range(count))


def walk(vecs: Sequence[Range], limits: QueueLimits, sector: int = 0) -> list[Taken]:
    """Return every step of the split of a bio. Raises SyscallError as the block layer does."""
    return list(walked(tuple(vecs), Sector(sector), limits))


def pieces(steps: Sequence[Taken]) -> int:
    """Return how many pieces a walk makes."""
    return max(step.piece for step in steps) + 1


def first_rule(steps: Sequence[Taken]) -> str:
    """Return the rule of the first cut of a walk, 'none' without one."""
    return next((step.rule for step in steps if step.rule), "none")


def issued(trace: Trace) -> int:
    """Return how many requests went to the driver."""
    return len(trace.of(BlockRqIssue))


def _segments(steps: Sequence[Taken]) -> int:
    return max(step.segments for step in steps if step.piece == 0)


PIECES = Question(
    "32 pages that do not touch, and max_segments is 8: how many pieces?",
    pieces,
    "A page that does not touch the one before is a segment of its own (SPLIT-3).",
)
SEGMENTS = Question(
    "The same 128 KiB as one run, and no segment is longer than 64 KiB: how many segments has the first piece?",
    _segments,
    "Memory that is contiguous is one segment, until that is as long as it may be (SPLIT-3d).",
)
GAP = Question(
    "Which rule cuts here first, where pieces of memory begin and end inside a page?",
    first_rule,
    "PRP lists are of pages: only the first vector may begin inside one, only the last end there (SPLIT-3b).",
    RULES,
)
CHUNK = Question(
    "128 KiB at sector 48, and no request crosses a multiple of 128 sectors: how many bytes has the first piece?",
    lambda steps: sum(step.nbytes for step in steps if step.piece == 0),
    "Up to sector 128 there are 80 sectors of 512 bytes (SPLIT-2).",
)
MERGED = Question(
    "Twelve bios that are neighbours on the drive: how many requests?",
    issued,
    "While a plug keeps requests back, a bio that goes on where one ends joins it, if limits allow (MERGE-4, MERGE-5).",
)


def merged(**knobs: Any) -> Trace:
    """Return the trace of a write of 96 KiB into twelve extents that are neighbours on the device."""
    machine = Machine(fs="xfs", extents="mixed", op="write", size="96 KiB", system="page", ram="64 MiB", **knobs)
    machine.run()
    return machine.trace


def endless(seed: int) -> Iterator[Exercise]:
    """Yield exercises on splits and merges without end; the same seed gives the same series."""
    return quiz.endless(seed, (_ask_pieces, _ask_rule, _ask_chunk, _ask_segments, _ask_merged))


def _ask_pieces(rng: Random) -> Exercise:
    count, most, sectors = rng.randrange(5, 40), rng.choice((4, 8, 16, 33)), rng.choice((64, 128, 256))
    steps = walk(pages(count), QueueLimits(max_segments=most, max_hw_sectors=sectors))
    text = f"{count} pages that do not touch; max_segments is {most}, max_sectors {sectors}. How many pieces?"
    return Exercise(text, pieces(steps), "Whichever limit is met first ends a piece (SPLIT-2, SPLIT-3).")


def _ask_rule(rng: Random) -> Exercise:
    count, most, sectors = rng.randrange(4, 40), rng.choice((4, 16, 64)), rng.choice((64, 256))
    nbytes = rng.choice((PAGE_SIZE, PAGE_SIZE, PAGE_SIZE // 2))
    boundary = rng.choice((0, PAGE_SIZE - 1))
    limits = QueueLimits(max_segments=most, max_hw_sectors=sectors, virt_boundary_mask=boundary)
    steps = walk(pages(count, nbytes), limits)
    text = (
        f"{count} vectors of {human_bytes(nbytes)}, each at the start of a page, none touches another; "
        f"max_segments {most}, max_sectors {sectors}, virt_boundary_mask {boundary:#x}. Which rule cuts first?"
    )
    return Exercise(text, first_rule(steps), "Gaps are looked at for each vector, bytes and segments add up.", RULES)


def _ask_chunk(rng: Random) -> Exercise:
    chunk, sector = rng.choice((64, 128, 256)), 8 * rng.randrange(64)
    steps = walk(((_BASE, 1 << 17),), QueueLimits(max_hw_sectors=256, chunk_sectors=chunk), sector)
    text = f"128 KiB in one run at sector {sector}; chunk_sectors is {chunk}. How many pieces?"
    hint = f"Each piece ends at a multiple of {human_bytes(chunk * SECTOR_SIZE)} on the device (SPLIT-2)."
    return Exercise(text, pieces(steps), hint)


def _ask_segments(rng: Random) -> Exercise:
    nbytes, longest = rng.choice((64, 128, 256)) << 10, rng.choice((16, 64)) << 10
    steps = walk(((_BASE, nbytes),), QueueLimits(max_hw_sectors=512, max_segment_size=longest))
    text = f"{human_bytes(nbytes)} in one run; max_segment_size is {human_bytes(longest)}. How many segments?"
    return Exercise(text, _segments(steps), "A run is one segment, cut where it is as long as may be (SPLIT-3d).")


def _ask_merged(rng: Random) -> Exercise:
    most, nomerges = rng.choice((4, 8, 16, 33)), rng.choice((0, 0, 2))
    trace = merged(limits={"max_segments": most, "nomerges": nomerges}, fragmentation=1, seed=rng.randrange(9))
    vecs = sum(rec.vecs for rec in trace.of(BlockBioQueue))
    text = (
        f"Twelve bios of two vectors each ({vecs} in all) are neighbours on the device; max_segments is {most}, "
        f"nomerges {nomerges}. How many requests reach the driver?"
    )
    hint = f"{len(trace.of(BlockBioBackmerge))} of the bios are merged (MERGE-4)."
    return Exercise(text, issued(trace), hint)
