"""The questions of notebook 04: pins, and who holds this page."""

from collections.abc import Iterator
from random import Random
from typing import Any, get_args

from labkit.kernel.mm.frames.folio import Folio
from labkit.kernel.mm.gup.phyrs import get_user_phyrs
from labkit.kernel.mm.pin.ops import Event
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.lessons import quiz
from labkit.lessons.quiz import Exercise, Question
from labkit.machine import Machine
from labkit.trace.events import GupPin
from labkit.trace.trace import Trace
from labkit.units import human_bytes

Report = dict[str, Any]
HAZARDS = {
    "munmap": "the program unmaps the buffer", "migrate": "compaction wants to move the pages",
    "fork": "the program forks and writes to the buffer", "early-unpin": "a bug lets go of the pins too early",
}  # fmt: skip
"""What gets in the way of a read, by the name that a scenario has for it."""
_ACTS = HAZARDS | {"truncate": "somebody truncates the file that the buffer is a mapping of"}
YES_NO = ("yes", "no")
OUTCOMES = ("done", "refused", "waited", "orphaned")


def broken(reports: dict[str, Report]) -> int:
    """Return in how many of `reports` an invariant was broken."""
    return sum(bool(report["violations"]) for report in reports.values())


def outcome(report: Report) -> str:
    """Return what came of the hazard of `report`: done, refused, waited, orphaned."""
    return str(report["hazard"]["outcome"])


def owner(trace: Trace) -> str:
    """Return who has the first page that was pinned in the end, "parent" or "child"."""
    addr = trace.of(GupPin)[0].ranges[0][0]
    mms = [mm for _, pa, nbytes, mm in trace.state_at(trace.end).pages if pa <= addr < pa + nbytes]
    return "parent" if 0 in mms else "child"


REFCOUNT = Question(
    "A page that one program maps is pinned three times: what is its reference count?",
    lambda folio: folio.refcount,
    "One for the mapping, and 1024 for each pin of a small folio: 1 + 3 × 1024 (MM-13).",
)
LARGE = Question(
    "A folio of 64 KiB, mapped by sixteen entries, is pinned whole: what is its reference count?",
    lambda folio: folio.refcount,
    "One for each entry and one for each page pinned; how many are pins is in a count of its own (MM-14).",
)
LOOKS = Question(
    "A page is mapped by 1200 programs, and nobody has pinned it: does it look pinned?",
    lambda folio: "yes" if folio.maybe_dma_pinned else "no",
    "From 1024 references on a page looks pinned: never a false no, sometimes a false yes (MM-16).",
    YES_NO,
)
ATOMICS = Question(
    "2 MiB in folios of 64 KiB, counted folio by folio: how many atomic operations to pin them?",
    lambda cost: cost.atomics,
    "One operation for each of 32 folios, sixteen times fewer than for pages (PHYR-28).",
)
PINS = Question(
    "A read of 4 MiB into scattered pages, as pages: how many times does the kernel pin?",
    len,
    "A bio has 256 vectors at most, and each bio pins its own pages and lets go of them (BIO-1).",
)
MUNMAP = Question(
    "The buffer is unmapped while the drive is at work: under how many of the five policies does something break?",
    broken,
    "A pin keeps the frames until it goes, and a lease makes munmap wait; under none they are free at once.",
)
MIGRATE = Question(
    "Compaction wants to move pages that are pinned: is that done, refused, or does it wait?",
    outcome,
    "Whoever moves a page counts its references, and gives up where one is not accounted for (MM-21).",
    OUTCOMES,
)
LEASED = Question(
    "And pages that are in use under a lease: is that done, refused, or does it wait?",
    outcome,
    "A lease keeps nothing from happening: whoever wants the memory back asks, and waits for the IO (D-13).",
    OUTCOMES,
)
FORK = Question(
    "The program forks while its buffer is pinned, and writes to it: who has the page that the drive writes to?",
    owner,
    "A page that looks pinned is copied for the child at once, and the parent keeps its frame (MM-19).",
    ("parent", "child"),
)


def endless(seed: int) -> Iterator[Exercise]:
    """Yield exercises on pins without end; the same seed gives the same series."""
    return quiz.endless(seed, (_small, _large, _looks, _how_many, _cost, _blocks, _outcome, _survives))


def _small(rng: Random) -> Exercise:
    maps, pins = rng.randrange(2, 5), rng.randrange(2, 6)
    folio = Folio(7, 0, refcount=maps)
    folio.pin(pins)
    text = f"A page is mapped by {maps} programs and pinned {pins} times. What is its reference count?"
    return Exercise(text, folio.refcount, f"One for each mapping, 1024 for each pin: {maps} + {pins} × 1024 (MM-13).")


def _large(rng: Random) -> Exercise:
    order, pins = rng.choice((2, 4, 9)), rng.randrange(2, 5)
    folio = Folio(512, order, refcount=1 << order)
    folio.pin(pins)
    text = (
        f"A folio of {human_bytes(folio.nbytes)} is mapped by {1 << order} entries; {pins} of its pages are pinned. "
        "What is its reference count?"
    )
    return Exercise(text, folio.refcount, "One for each entry, and one for each page that is pinned (MM-14).")


def _looks(rng: Random) -> Exercise:
    order, refs = rng.choice((0, 0, 4)), rng.choice((3, 600, 1023, 1024, 1025, 1700, 2049))
    folio = Folio(16, order, refcount=refs)
    text = f"A folio of order {order} has {refs} references, and a pin count of {folio.pincount}. Does it look pinned?"
    hint = "A large folio counts its pins exactly; a small one looks pinned from 1024 references on (MM-16)."
    return Exercise(text, "yes" if folio.maybe_dma_pinned else "no", hint, YES_NO)


def _how_many(rng: Random) -> Exercise:
    maps, pins = rng.randrange(1, 9), rng.randrange(1, 9)
    folio = Folio(7, 0, refcount=maps)
    folio.pin(pins)
    text = f"A page of order 0 has {folio.refcount} references. If they are pins as far as possible, how many pins?"
    return Exercise(text, pins, f"A pin counts 1024: {folio.refcount} = {pins} × 1024 + {maps} (MM-13).")


def _cost(rng: Random) -> Exercise:
    name = rng.choice(list(POLICIES))
    task = Machine(ram="64 MiB", fragmentation=1).task()
    buf = task.mmap("256 KiB", folio="64 KiB")
    task.store(buf, bytes(256 << 10))
    phyrs = get_user_phyrs(task.mm, buf, 256 << 10, write=True).phyrs
    text = f"256 KiB in four scattered folios of 64 KiB, policy {name}: how many atomic operations does the pin take?"
    atomics = POLICIES[name].pin(task.mm, phyrs).atomics
    return Exercise(text, atomics, "A policy counts what it is named after; lease counts one user, and none nothing.")


def _blocks(rng: Random) -> Exercise:
    name = rng.choice(list(POLICIES))
    event = rng.choice(get_args(Event))
    why = POLICIES[name].blocks.get(event)
    text = f"Memory is held under policy {name}. Does that keep {event} from happening to it, or make it wait?"
    hint = f"{why[0].upper()}{why[1:]}." if why else "Nobody who does this asks about such a hold."
    return Exercise(text, "yes" if why else "no", hint, YES_NO)


def _outcome(rng: Random) -> Exercise:
    hazard = rng.choice(("munmap", "migrate", "truncate"))
    name = rng.choice([policy for policy in POLICIES if policy != "none"])
    report = Machine(hazard=hazard, pin=name, size="16 KiB", ram="64 MiB", seed=7).run()
    text = f"In the middle of a read into memory held under policy {name}, {_ACTS[hazard]}. What comes of that?"
    told = str(report["hazard"]["text"])
    return Exercise(text, outcome(report), f"{told[0].upper()}{told[1:]}.", OUTCOMES)


def _survives(rng: Random) -> Exercise:
    hazard, name = rng.choice(list(HAZARDS)), rng.choice(list(POLICIES))
    machine = Machine(hazard=hazard, pin=name, size="16 KiB", ram="64 MiB", seed=rng.randrange(1000))
    bad = machine.run()["violations"]
    text = f"Policy {name}. In the middle of a read, {HAZARDS[hazard]}. Does every byte end up where it should?"
    hint = f"{bad[0]['invariant']}: {bad[0]['text']}." if bad else "The hold, or who asks for the memory, sees to it."
    return Exercise(text, "no" if bad else "yes", hint, YES_NO)
