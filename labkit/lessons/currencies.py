"""The questions of notebook 05: one IO in three currencies."""

from collections.abc import Iterator, Sequence
from random import Random

from labkit.lessons import quiz
from labkit.lessons.plot import Curves
from labkit.lessons.quiz import Exercise, Question
from labkit.machine import Machine
from labkit.machine.compare import SYSTEMS, Comparison, compare
from labkit.trace.layers import BELOW_DIO, layers
from labkit.trace.trace import Trace
from labkit.units import human_bytes

NAMES = {"page": "as pages, as today", "phyr": "as phyrs", "unified": "in one unified iterator"}
"""Each system in words."""
METERS = {
    "bios": ("block", "bios"),
    "segments": ("block", "segments"),
    "bytes of descriptors": ("dio", "descriptor_bytes"),
}
"""What is measured over fragmentation: layer and meter of each."""
_FRAGMENTATION = (0.0, 0.25, 0.5, 0.75, 1.0)
_MIB = 1 << 20
_MEMORY = ("all of them neighbours", "no two of them neighbours")
"""What memory is like at fragmentation 0 and 1."""


def meter(trace: Trace, layer: str, name: str) -> int:
    """Return one meter of `trace`: layers and names are those of trace.layers."""
    return layers(trace.records)[layer][name]


def below(trace: Trace) -> int:
    """Return how often `trace` touches a struct page below direct IO."""
    return sum(found.get("struct_pages", 0) for layer, found in layers(trace.records).items() if layer in BELOW_DIO)


def _vectors(system: str) -> Question:
    text = f"256 KiB in scattered pages, {NAMES[system]}: how many vectors has the bio?"
    hint = "A vector ends where the next page does not touch it, and today at the end of its folio (R3)."
    if system == "phyr":
        hint = "One for each range: pages that happen to be neighbours are one phyr (PHYR-12)."
    return Question(text, lambda found: meter(found.traces[system], "block", "vectors"), hint)


PAGE_VECTORS, PHYR_VECTORS = _vectors("page"), _vectors("phyr")
REQUESTS = Question(
    "And how many requests go to the drive, as phyrs?",
    lambda found: meter(found.traces["phyr"], "block", "requests"),
    "Fewer vectors help only where segments were what ran out: bytes are limited just the same (SPLIT-2, SPLIT-3).",
)
TOUCHED = Question(
    "In how many of the three systems does somebody below direct IO touch a struct page?",
    lambda found: sum(below(trace) > 0 for trace in found.traces.values()),
    "A vector that names a page must be turned into an address, and a page is what it is asked of.",
)
LARGE = Question(
    "Now in one folio of 2 MiB: how many vectors has the first bio of 1 MiB, as pages?",
    lambda trace: meter(trace, "block", "vectors"),
    "Pages of one folio that touch are one vector today, too (R3).",
)


def sweep(
    size: int | str = "1 MiB", systems: Sequence[str] = SYSTEMS, points: Sequence[float] = _FRAGMENTATION
) -> dict[str, Curves]:
    """Run a read of `size` in each of `systems` over fragmentation; return a plot of each of METERS, per MiB.

    Raises BadInput, ScenarioError as compare does.
    """
    found = {x: compare(size=size, systems=systems, fragmentation=x, ram="256 MiB", seed=7) for x in points}
    mib = next(iter(found.values())).scenario.size / _MIB
    return {
        name: Curves(
            {system: [(x, meter(each.traces[system], *key) / mib) for x, each in found.items()] for system in systems},
            x="fragmentation",
            y=f"{name} per MiB",
        )
        for name, key in METERS.items()
    }


def endless(seed: int) -> Iterator[Exercise]:
    """Yield exercises on currencies without end; the same seed gives the same series."""
    return quiz.endless(seed, (_ask_vectors, _ask_requests, _ask_below, _ask_most))


def _read(rng: Random, system: str) -> tuple[str, Trace]:
    """Return a read in words, and its trace."""
    size, folio = rng.choice((64, 128, 256, 512)) << 10, rng.choice(("4 KiB", "4 KiB", "64 KiB"))
    fragmentation = rng.choice((0, 1))
    machine = Machine(
        system=system, size=size, folio=folio, fragmentation=fragmentation, ram="64 MiB", seed=rng.randrange(99)
    )
    machine.run()
    text = f"{human_bytes(size)} in folios of {folio}, {_MEMORY[fragmentation]}, {NAMES[system]}"
    return text, machine.trace


def _ask_vectors(rng: Random) -> Exercise:
    what, trace = _read(rng, rng.choice(("page", "phyr", "unified")))
    text = f"A read of {what}. How many vectors have its bios?"
    hint = "A vector is a page, pages of one folio that touch (R3), or a phyr, which asks for no folio (PHYR-12)."
    return Exercise(text, meter(trace, "block", "vectors"), hint)


def _ask_requests(rng: Random) -> Exercise:
    what, trace = _read(rng, rng.choice(("page", "phyr")))
    text = f"A read of {what}; requests hold 128 KiB and 33 segments at most. How many requests?"
    hint = "Whichever limit is met first ends a request (SPLIT-2, SPLIT-3)."
    return Exercise(text, meter(trace, "block", "requests"), hint)


def _ask_below(rng: Random) -> Exercise:
    what, trace = _read(rng, rng.choice(("page", "phyr", "unified")))
    text = f"A read of {what}. How many struct pages are touched below direct IO?"
    return Exercise(text, below(trace), "One for each vector that names a page, none for an address.")


def _ask_most(rng: Random) -> Exercise:
    size, seed = rng.choice((64, 256)) << 10, rng.randrange(99)
    found: Comparison = compare(size=size, fragmentation=0.8, ram="64 MiB", seed=seed, systems=("page", "phyr"))
    bytes_ = {name: meter(trace, "dio", "descriptor_bytes") for name, trace in found.traces.items()}
    right = min(bytes_, key=lambda name: bytes_[name]) if len(set(bytes_.values())) > 1 else "equal"
    told = ", ".join(f"{name} {human_bytes(n)}" for name, n in bytes_.items())
    text = f"{human_bytes(size)} in scattered pages: which system needs fewer bytes to describe them?"
    return Exercise(text, right, f"{told}.", ("page", "phyr", "equal"))
