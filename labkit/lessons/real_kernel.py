"""The questions of notebook 11: what the kernel under our feet makes of an IO, predicted and then seen."""

import errno
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from labkit.errors import LabkitError, NotAllowed, SyscallError
from labkit.lessons import quiz
from labkit.lessons.quiz import Exercise, Question
from labkit.machine import DATA
from labkit.units import PAGE_SHIFT, PAGE_SIZE, human_bytes
from labkit.views.words import count
from labkit.witness.asking import ask
from labkit.witness.capture import Capture
from labkit.witness.check import parts, recorded
from labkit.witness.demos import Shown
from labkit.witness.outcome import Outcome
from labkit.witness.predict import Prediction, predict
from labkit.witness.source import Asked, AskedIo

CAPTURES = DATA / "captures"
RESULTS = ("works", "EFAULT", "EINVAL", "EIO", "ENOMEM")
_MIB = 1 << 20


def _read(name: str, buffer: str, nbytes: int, **more: Any) -> Asked:
    return Asked(name, buffer, "pread", (AskedIo("r", _MIB, ((0, nbytes),)),), **more)


LESSONS: dict[str, tuple[Asked, str]] = {
    "one-page": (_read("one-page", "4KiB", PAGE_SIZE), "01-one-page-read"),
    "scattered": (_read("scattered", "4KiB-shuffled", _MIB), "05-1m-random-4k"),
    "thp": (_read("thp", "2MiB", _MIB), "07-1m-thp"),
    "lowered": (
        _read("lowered", "2MiB", 6 * _MIB, knobs={"max_sectors_kb": 64, "nomerges": 0}),
        "33-max64k-nomerges0",
    ),
}
"""The IOs of the notebook by name: what a kernel is asked for, and the capture that stands in where it may not be."""


def captured_or_recorded(name: str) -> Capture:
    """Return a capture of the IO `name` of LESSONS, made now or recorded, and print which of the two it is.

    The line that is printed gives the reason and the remedy when it is the recording. Raises KeyError for no name.
    """
    asked, instead = LESSONS[name]
    try:
        (capture,) = _captured([asked])
    except (NotAllowed, SyscallError) as bad:
        capture = Capture.load(CAPTURES / f"{instead}.json")
        print(f"{bad}. Shown instead: {_origin(capture)}.")  # noqa: T201
        return capture
    print(f"Captured just now: Linux {capture.kernel}, on a loop device of the lab's own.")  # noqa: T201
    return capture


def residuals(many: int, seed: int) -> list[dict[str, Any]]:
    """Return what came of `many` random IOs on this kernel, or of every recorded one, and print which it is.

    A row for each IO, as the picture takes it: id, op, size, buffer, limits, parts that are exact, first difference.
    """
    try:
        rows = _random(many, seed)
    except (NotAllowed, SyscallError) as bad:
        every = [Capture.load(path) for path in sorted(CAPTURES.glob("*.json"))]
        print(f"{bad}. Shown instead: {len(every)} IOs, each {_origin(every[0])}.")  # noqa: T201
        return [_row(capture) for capture in every]
    print(f"Captured just now: {many} random IOs on a loop device of the lab's own.")  # noqa: T201
    return rows


def allowed() -> str:
    """Return whether this machine lets its kernel be watched: in a sentence, with the remedy where it does not."""
    try:
        with _source() as source:
            return (
                f"Yes: Linux {source.kernel} lets its IO be watched, on a loop device that the lab makes and removes."
            )
    except (NotAllowed, SyscallError) as bad:
        return f"No: {bad}. What follows is played from recordings."


def _source() -> Any:
    """Return the kernel under our feet, with the vectors of bios where it tells them. Raises NotAllowed."""
    try:
        from labkit.witness.host_source import HostSource  # noqa: PLC0415 - recordings play where there is no fcntl
    except ImportError as no:
        raise NotAllowed("witness", "this Python", f"lacks {no.name}: run it on Linux", errno.ENOSYS) from None
    try:
        return HostSource(bios=True, pins=True)
    except NotAllowed:
        return HostSource()


def _captured(asked: Sequence[Asked]) -> list[Capture]:
    """Return what this kernel did with each of `asked`. Raises NotAllowed, SyscallError."""
    with _source() as source:
        return [source.capture(each) for each in asked]


def _random(many: int, seed: int) -> list[dict[str, Any]]:
    """Return what came of `many` random IOs on this kernel. Raises NotAllowed, SyscallError."""
    with _source() as source:
        found = [Outcome.of(asked, source.capture(asked)) for asked in ask(seed, many, source.space)]
    return [{**each._asdict(), "first": each.first} for each in found]


def _origin(capture: Capture) -> str:
    return f"a recording of {(capture.date or 'no date')[:10]}, Linux {capture.kernel.partition('-')[0]}"


def _row(capture: Capture) -> dict[str, Any]:
    """Return what came of a recorded IO, as `residuals` has it."""
    try:
        told = parts(capture, predict(capture))
    except LabkitError as bad:
        told = {"result": [str(bad)]}
    lines = [line for each in told.values() for line in each]
    size = sum(nbytes for io in capture.io for _, nbytes in io.iov)
    limits = {name: capture.limits.get(name) for name in ("logical_block_size", "max_sectors_kb", "nomerges")}
    about = {"id": capture.id, "op": capture.io[0].op, "size": size, "buffer": folios(capture), "limits": limits}
    return {**about, "parts": {name: not told[name] for name in told}, "first": lines[0] if lines else ""}


def folios(capture: Capture) -> str:
    """Return the size of the folios that most pages of a buffer lie in, '4KiB' where there are no large ones."""
    pages = max((row[1] for row in capture.layout.large_folios), default=1)
    return human_bytes(pages << PAGE_SHIFT).replace(" ", "")


def bio_rows(capture: Capture) -> list[list[Any]]:
    """Return the bios that were seen, [sector, [[physical address, bytes], ...]]; predicted ones where none were."""
    return recorded(capture).bios or predict(capture).bios


def bios(capture: Capture) -> int:
    """Return how many bios the kernel was seen to make. Raises BadInput for a capture without events."""
    return _seen(capture, "block_bio_queue")


def splits(capture: Capture) -> int:
    """Return how often the kernel was seen to split a bio."""
    return _seen(capture, "block_split")


def requests(capture: Capture) -> int:
    """Return how many requests the kernel was seen to hand to the driver."""
    return _seen(capture, "block_rq_issue")


def _seen(capture: Capture, name: str) -> int:
    """Return how many events `name` there are, those of other people's IO aside."""
    events = [each for each in capture.events or () if each.get("by") != "foreign"]
    return sum(str(each["event"]).rpartition(":")[2] == name for each in events)


def compared(capture: Capture) -> str:
    """Return in which parts a capture is as predicted, or the first difference."""
    told = parts(capture, predict(capture))
    first = next((line for lines in told.values() for line in lines), "")
    return first or f"exact in {', '.join(told)}"


def said(shown: Shown, words: str) -> str:
    """Return what the kernel answered to what `words` are about: works, or the name of an errno."""
    value = next(value for name, value in shown.seen.answers.items() if words in name)
    return "works" if isinstance(value, int) else str(value).removeprefix("-")


def pinned(shown: Shown, words: str) -> int:
    """Return how many pages the step that `words` are about pinned, as the kernel counted them."""
    value = next(value for name, value in shown.seen.answers.items() if words in name)
    return int(str(value).partition(",")[0])


BIOS = Question(
    "1 MiB in 256 pages that do not touch: how many bios?", bios,
    "A bio has room for 256 vectors, and each page that touches no other is one (R3, R4).",
)  # fmt: skip
SPLITS = Question(
    "A request has 128 segments at most: how often is that bio split?", splits,
    "256 vectors are 256 segments; the front takes 128 of them (R11), the rest fits.",
)  # fmt: skip
REQUESTS = Question(
    "The same 1 MiB in one folio of 2 MiB: how many requests?", requests,
    "One run is one vector, sliced into sixteen segments of 64 KiB; nothing is in the way (R3, R11).",
)  # fmt: skip
LOWERED = Question(
    "6 MiB, and no request may be longer than 64 KiB: how many requests?", requests,
    "6 MiB are 96 times 64 KiB: the limit of bytes ends each piece (R10, R11).",
)  # fmt: skip
VVAR = Question(
    "A page of [vvar], where the kernel keeps the time for you, is written with O_DIRECT: what does it say?",
    lambda shown: said(shown, "vvar"),
    "It is a mapping of frames, and what is pinned are pages (MISS-3); a copy by the CPU works.", RESULTS,
)  # fmt: skip
FIXED = Question(
    "64 KiB are registered, then read into five times by READ_FIXED: how many pages do the five pin?",
    lambda shown: pinned(shown, "READ_FIXED"),
    "They were pinned when they were registered, and are let go of when that ends (REG-1).",
)  # fmt: skip


def imagined(sizes: Sequence[int], **limits: int) -> Capture:
    """Return a read, not done, of runs of `sizes` pages each that touch no other, on Linux 6.18, with `limits`."""
    at, rows = 0x7F00_0000_0000, []
    for i, pages in enumerate(sizes):
        rows.append([at, 0x40000 + 2048 * i, pages])
        at += pages << PAGE_SHIFT
    iov = [[0x7F00_0000_0000, at - 0x7F00_0000_0000]]
    values = {
        "format": "labkit-capture-1", "id": "imagined", "kernel": "6.18",
        "device": {"path": "blkdev", "size_bytes": 1 << 30}, "limits": _LIMITS | limits,
        "io": [{"api": "pread", "op": "r", "pos": 0, "iov": iov}], "layout": {"before": rows},
    }  # fmt: skip
    return Capture.of(values)


_LIMITS: dict[str, Any] = {
    "logical_block_size": 512, "physical_block_size": 512, "max_sectors_kb": 1280, "max_hw_sectors_kb": 1280,
    "max_segments": 128, "max_segment_size": 65536, "dma_alignment": 511, "virt_boundary_mask": 0,
    "chunk_sectors": 0, "nomerges": 0, "nr_requests": 128, "scheduler": "[none]",
}  # fmt: skip
"""Those of a loop device."""


def endless(seed: int) -> Iterator[Exercise]:
    """Yield exercises on what a kernel makes of a layout, without end; the same seed gives the same series."""
    return quiz.endless(seed, (_ask_bios, _ask_splits, _ask_requests, _ask_lowered))


def _runs(rng: Random, **limits: int) -> tuple[str, Prediction]:
    """Return a layout of equal runs in words, and what becomes of it."""
    pages, many = rng.choice((1, 2, 5, 16, 17, 64, 300)), rng.choice((8, 30, 128, 200, 256, 300, 520))
    many = min(many, 4096 // pages)
    text = f"A read of {human_bytes(many * pages << PAGE_SHIFT)} into {many} runs of {count(pages, 'page')} each"
    return text, predict(imagined([pages] * many, **limits))


def _ask_bios(rng: Random) -> Exercise:
    text, found = _runs(rng)
    return Exercise(
        f"{text}. How many bios?",
        len(found.bios),
        "A run is a vector; a bio has 256 of them, and the last is one page (R3, R4).",
    )


def _ask_splits(rng: Random) -> Exercise:
    most = rng.choice((32, 64, 128))
    text, found = _runs(rng, max_segments=most)
    hint = "A segment is 64 KiB at most, and no two vectors share one (R11, R12)."
    return Exercise(f"{text}; max_segments is {most}. How many splits?", len(found.splits), hint)


def _ask_requests(rng: Random) -> Exercise:
    text, found = _runs(rng, nomerges=rng.choice((0, 2)))
    return Exercise(
        f"{text}. How many requests?", len(found.requests), "Each split makes one more (R13), if none is merged."
    )


def _ask_lowered(rng: Random) -> Exercise:
    kib = rng.choice((16, 64, 128, 512))
    text, found = _runs(rng, max_sectors_kb=kib)
    hint = f"No request is longer than {kib} KiB (R10), nor of more than 128 segments (R11)."
    return Exercise(f"{text}; max_sectors_kb is {kib}. How many requests?", len(found.requests), hint)
