"""Many captures held against their predictions: what was exact, how often, and what other kernels' rules would say."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

from labkit.errors import LabkitError
from labkit.kernel.version import KERNELS, Rules, rules_of
from labkit.witness.capture import Capture
from labkit.witness.check import parts, result_of
from labkit.witness.predict import Prediction, predict
from labkit.witness.source import Asked

PARTS = ("result", "bytes", "bios", "splits", "requests", "events")


class Outcome(NamedTuple):
    """One IO, or a few of one submission: what was asked, and which parts of the prediction were exact.

    `parts`: True where exact; without events, where their order is not certain (`ordered` False: R15, R16, R18).
    `first`: the first difference, "" for none. `lines`: all of them. `foreign`: events of somebody else's IO.
    """

    id: str
    op: str
    size: int
    buffer: str
    api: str
    limits: dict[str, Any]
    parts: dict[str, bool]
    ordered: bool
    result: list[int | str]
    foreign: int
    lines: list[str]

    @property
    def exact(self) -> bool:
        """Whether nothing differs."""
        return all(self.parts.values())

    @property
    def first(self) -> str:
        """The first difference, "" for none."""
        return self.lines[0] if self.lines else ""

    @classmethod
    def of(cls, asked: Asked, capture: Capture) -> Self:
        """Predict `capture`, which came of `asked`, and compare. Raises BadInput as predict does."""
        found = predict(capture)
        told = parts(capture, found)
        if capture.verified is not None:
            told["bytes"] = [] if capture.verified else [f"{capture.id}: bytes: memory is not what lies on the disk"]
        lines = [line for each in told.values() for line in each]
        limits = {name: capture.limits.get(name) for name in ("logical_block_size", "max_sectors_kb", "nomerges")}
        return cls(
            asked.id, asked.ios[0].op, asked.nbytes, asked.buffer, asked.api, limits,
            {name: not told[name] for name in told}, found.ordered, result_of(capture, found),
            sum(event.get("by") == "foreign" for event in capture.events or ()), lines,
        )  # fmt: skip


class Rates(NamedTuple):
    """How many of `ios` were exact, in all and by part: (exact, compared)."""

    ios: int
    exact: int
    parts: dict[str, tuple[int, int]]
    starved: int
    """IOs whose order is not certain, so that their events are not compared (R15, R16, R18)."""
    foreign: int
    """Events of somebody else's IO, which were told from ours."""

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Self:
        """Count `outcomes`."""
        counted = {
            name: (
                sum(each.parts.get(name, False) for each in outcomes), sum(name in each.parts for each in outcomes)
            )
            for name in PARTS
        }  # fmt: skip
        return cls(
            len(outcomes), sum(each.exact for each in outcomes), counted,
            sum(not each.ordered for each in outcomes), sum(each.foreign for each in outcomes),
        )  # fmt: skip


class Fit(NamedTuple):
    """How the rules of another known kernel do on the same captures."""

    kernel: str
    exact: int
    ios: int


def fits(captures: Iterable[Capture]) -> list[Fit]:
    """Return for every known kernel how many of `captures` its rules predict: best first, newest first."""
    every = list(captures)
    found = [Fit(name, sum(_fits(capture, name) for capture in every), len(every)) for name in reversed(KERNELS)]
    return sorted(found, key=lambda fit: -fit.exact)


def unproven(kernel: str) -> dict[str, dict[str, Any]]:
    """Return the rules on which known kernels differ, and what each says, where `kernel` is none of them; {} if it is.

    Those are what nobody has measured on it. Errors: rules_of.
    """
    _, proven = rules_of(kernel)
    if proven:
        return {}
    said = {name: {rules.name: getattr(rules, name) for rules in KERNELS.values()} for name in Rules._fields[1:]}
    return {name: values for name, values in said.items() if len(set(map(repr, values.values()))) > 1}


def _fits(capture: Capture, kernel: str) -> bool:
    """Return whether the rules of `kernel` predict `capture` in full."""
    other = capture.model_copy(update={"kernel": kernel})
    try:
        found: Prediction = predict(other)
    except LabkitError:
        return False
    return not any(parts(other, found).values())
