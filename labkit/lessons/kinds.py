"""The questions of notebook 06: which memory an IO may use, today and as phyrs."""

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from labkit.lessons import quiz
from labkit.lessons.quiz import Exercise, Question
from labkit.machine import Machine
from labkit.machine.kinds import Row, table

RESULTS = ("works", "EFAULT", "EREMOTEIO", "ENODEV")
YES_NO = ("yes", "no")
OUTCOMES = ("refused", "waited", "done")
_SYSTEMS = {"today": "as pages, on Linux 6.18", "phyr": "as phyrs"}


def said(report: Mapping[str, Any]) -> str:
    """Return what came of a run in a word: works, or the name of the errno, of mmap where it came to no IO."""
    error = report["error"]
    return "works" if error is None else str(error).rpartition("(-")[2].rstrip(")")


def gained(rows: Sequence[Row]) -> list[Row]:
    """Return the kinds that are refused today, and work as phyrs."""
    return [row for row in rows if row.today.read != "works" and row.phyr.read == "works"]


GPU_TODAY = Question(
    "A read straight into the memory of a GPU, today: what does the kernel say?",
    said,
    "The first test of all: a mapping of a device (VM_IO, VM_PFNMAP) has no struct pages to take (MISS-3).",
    RESULTS,
)
GPU_PHYR = Question(
    "And as phyrs, with the driver as the provider of its memory?",
    said,
    "An address and a length are all that an IO needs, if somebody answers for the memory (PHYR-28).",
    RESULTS,
)
SECRET = Question(
    "Secret memory (memfd_secret) has struct pages. As phyrs, does a write from it work?",
    said,
    "The kernel itself may not look at it: that is a policy, and no currency changes it.",
    RESULTS,
)
ZERO = Question(
    "A program writes 64 KiB that it has never touched: how many atomic operations do the pins take, today?",
    lambda report: report["meters"]["pin_atomics"],
    "It is one page of zeros, sixteen times; it never goes away, and nobody counts it (MM-15).",
)
FOREIGN = Question(
    "16 pages of another Xen domain, side by side in the guest's counting: how many ranges does the device see?",
    lambda report: len(report["dma"]),
    "The guest's addresses are not the machine's; what touches there need not touch here (D-16).",
)
GAINED = Question(
    "How many kinds of memory are refused today, and work as phyrs?",
    lambda rows: len(gained(rows)),
    "Those that have an owner who can answer for them, and no struct pages: GPU, VFIO, hidden RAM.",
)
GONE = Question(
    "The GPU is unplugged, and the program reads once more: which errno?",
    lambda error: error.errno_name.lstrip("-"),
    "Its provider has revoked the memory, so the IO does not begin (D-13).",
    RESULTS,
)


def endless(seed: int) -> Iterator[Exercise]:
    """Yield exercises on kinds of memory without end; the same seed gives the same series."""
    return quiz.endless(seed, (_result, _result, _struct_pages, _unplug))


def _result(rng: Random) -> Exercise:
    row, (system, how), op = rng.choice(_odd()), rng.choice(list(_SYSTEMS.items())), rng.choice(("read", "write"))
    outcome = getattr(row, system)
    text = f"{row.what.rstrip('.')}. An O_DIRECT {op} with it, {how}: what comes of it?"
    return Exercise(text, getattr(outcome, op), outcome.why, RESULTS)


def _struct_pages(rng: Random) -> Exercise:
    row = rng.choice([row for row in _odd() if row.name != "foreign"])  # has made-up ones, or none
    text = f"{row.what.rstrip('.')}. Does each 4 KiB of it have a struct page?"
    hint = f"Its mappings are {row.vm_flags or 'ordinary ones'}."
    return Exercise(text, "yes" if row.struct_pages else "no", hint, YES_NO)


def _odd() -> list[Row]:
    """Return the kinds that are worth a question: of folios of so many sizes, one is enough."""
    return [row for row in table() if not row.name[0].isdigit() or row.name == "2MiB"]


def _unplug(rng: Random) -> Exercise:
    pin = rng.choice(("range", "lease", "none"))
    came = Machine(hazard="unplug", pin=pin, size="16 KiB", ram="64 MiB", seed=7).run()["hazard"]
    text = (
        f"A drive writes into the memory of a GPU, held under policy {pin}. Somebody asks to unplug the GPU. "
        "Is that refused, does it wait, or is it done at once?"
    )
    return Exercise(text, came["outcome"], f"{came['text'][0].upper()}{came['text'][1:]}.", OUTCOMES)
