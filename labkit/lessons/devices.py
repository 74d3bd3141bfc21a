"""The questions of notebook 10: devices, queues, and what breaks."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from random import Random
from typing import Any

from labkit.lessons import quiz
from labkit.lessons.quiz import Exercise, Question
from labkit.machine import DATA, Machine
from labkit.machine.workload import Offered, offer
from labkit.units import human_bytes

DEVICES = ("optane", "nvme", "virtio", "ahci", "disk")
RESULTS = ("works", "EIO", "ENODATA", "ENOMEM", "ETIMEDOUT")
FAULTS = {
    "media-error": "a sector in the middle cannot be read any more",
    "lost-interrupt": "the command is done, and nobody is told",
    "timeout": "the device takes the command, and never answers",
    "short-transfer": "the transfer stops halfway, and the device says so",
    "iommu-fault": "the mapping is torn out of the IOMMU behind the driver's back",
    "iova-exhausted": "the device's address space is full, and stays so",
    "queue-full": "the device has no room for a command, three times",
    "unplug": "somebody pulls the device out",
    "wedged": "the device answers nothing any more, not even a reset",
}
"""What may break in the midst of a read, by the name that a scenario has for it."""
_SECOND = 1_000_000_000


@dataclass(frozen=True, repr=False)
class Profile:
    """The numbers of a device, and where each of them comes from; in Jupyter, and printed, a table."""

    name: str
    rows: tuple[tuple[str, int | float, str], ...]

    def __repr__(self) -> str:
        """Return a line for each number."""
        return "\n".join(f"{name:22} {value:>16,}  {origin}" for name, value, origin in self.rows)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{value:,}</td><td style='text-align:left'>{escape(origin)}</td></tr>"
            for name, value, origin in self.rows
        )
        return f"<table><tr><th>{escape(self.name)}</th><th>value</th><th>origin</th></tr>{rows}</table>"


def profile(name: str) -> Profile:
    """Return the numbers of device `name` and their origins. Raises KeyError for a device that has no profile."""
    found = {path.stem: path for path in DATA.glob("*.toml")}
    tables = tomllib.loads(found[name].read_text("utf-8"))
    rows = ((key, row["value"], row["origin"]) for key, row in tables.items() if "value" in row)
    return Profile(name, tuple(rows))


def busy(device: str = "nvme", profile: Mapping[str, float] | None = None, **load: Any) -> tuple[Machine, Offered]:
    """Return a machine with `device` that a load was offered to, and what came of it."""
    machine = Machine(device=device, ram="64 MiB", seed=7, profile=dict(profile or {}))
    return machine, offer(machine, **load)


def one_read(device: str, **knobs: Any) -> dict[str, Any]:
    """Return the report of one read from `device`."""
    asked: dict[str, Any] = {"device": device, "ram": "64 MiB", "size": "4 KiB", "seed": 7} | knobs
    return Machine(**asked).run()


def said(report: Mapping[str, Any]) -> str:
    """Return what came of a run in a word: works, or the name of the errno."""
    error = report["error"]
    return "works" if error is None else str(error).rpartition("(-")[2].rstrip(")")


def seconds(report: Mapping[str, Any]) -> int:
    """Return how many whole seconds of its own time a run took."""
    return int(report["sim_ns"] // _SECOND)


def _times(pair: tuple[Offered, Offered]) -> int:
    """Return how many times as many IOs a second the second of two loads got, rounded."""
    return round(pair[1].iops / pair[0].iops)


def _first_seen(pair: tuple[Offered, Offered]) -> str:
    """Return whether the median or p99 grew more from the first load to the second."""
    one, other = (load.ios.summary() for load in pair)
    return max(("p50", "p99"), key=lambda name: other[name] / one[name])


FASTER = Question(
    "How many times as many 4 KiB reads, one at a time and at random places, does NVMe do as a disk?",
    _times,
    "A disk waits for its arm and for half a turn on average; flash only senses a page.",
)
DEEP = Question(
    "The drive has 32 dies. 32 reads are on their way at a time instead of one: how many times as many a second?",
    _times,
    "Places are random: some dies are asked by several at once, while others have nothing to do.",
)
TURN = Question(
    "A disk of 7200 turns a minute, 4 KiB after 4 KiB, one at a time: how many reads a second?",
    lambda offered: round(offered.iops),
    "When the next read comes, its sector has just gone by: it takes a whole turn until it comes again.",
)
WORN = Question(
    "A drive that was written over and over has to clean up while you write. Where do you see it more?",
    _first_seen,
    "Most writes find room; a few wait for a block to be emptied and erased, and those take hundreds of times as long.",
    ("p50", "p99"),
)
MEDIA = Question(
    "NVMe, and a sector that cannot be read: which errno?",
    said,
    "The drive says so in its status, and the block layer has a word for it: critical medium (BLK-1).",
    RESULTS,
)
MEDIA_VIRTIO = Question(
    "The same sector, behind virtio-blk: which errno?",
    said,
    "Its status is one byte: fine, error, unsupported. What was wrong is lost on the way (BLK-1).",
    RESULTS,
)
LATE = Question(
    "The drive forgets the command. How many seconds until the program hears of it?",
    seconds,
    "Nobody looks before io_timeout is over, 30 s (BLK-3); then the command is aborted.",
)


def endless(seed: int) -> Iterator[Exercise]:
    """Yield exercises on devices and faults without end; the same seed gives the same series."""
    return quiz.endless(seed, (_ask_fault, _ask_turn, _ask_seconds, _ask_little, _ask_fault))


def _ask_fault(rng: Random) -> Exercise:
    kind, device = rng.choice(list(FAULTS)), rng.choice(("nvme", "virtio", "ahci"))
    report = one_read(device, size="64 KiB", faults=(f"{kind}@BlockGetrq",))
    text = f"A read of 64 KiB from {device}, and {FAULTS[kind]}. What does the program get?"
    return Exercise(text, said(report), f"See {_origin(kind, device)} (BLK-1).", RESULTS)


def _origin(kind: str, device: str) -> str:
    """Return where it was read what becomes of a fault."""
    return str(tomllib.loads((DATA / "faults.toml").read_text("utf-8"))[kind][device]["origin"])


def _ask_turn(rng: Random) -> Exercise:
    rpm = rng.choice((3600, 4200, 5400, 7200))
    _, offered = busy("disk", {"rpm": rpm}, random=False, count=200)
    text = f"A disk of {rpm:,} turns a minute reads 4 KiB after 4 KiB, one at a time. How many reads a second?"
    return Exercise(text, round(offered.iops), f"One a turn: {rpm} / 60.")


def _ask_seconds(rng: Random) -> Exercise:
    kind, device = rng.choice(("timeout", "lost-interrupt", "wedged")), rng.choice(("nvme", "ahci"))
    report = one_read(device, size="64 KiB", faults=(f"{kind}@BlockGetrq",))
    text = f"{device}, and {FAULTS[kind]}. After how many whole seconds does the call return?"
    return Exercise(text, seconds(report), "io_timeout is 30 s, and a driver may be asked again (BLK-3).")


def _ask_little(rng: Random) -> Exercise:
    depth, nbytes = rng.choice((4, 8, 16)), rng.choice((4, 16)) << 10
    _, offered = busy("null", depth=depth, count=2000, size=nbytes)
    mean = round(offered.ios.mean_depth() * _SECOND / offered.iops)
    text = (
        f"A device does {offered.iops:,.0f} reads of {human_bytes(nbytes)} a second, and "
        f"{offered.ios.mean_depth():.2f} are on their way on average. How many ns does one take on average?"
    )
    return Exercise(text, mean, "Little: what is on its way is the rate times how long each takes.")
