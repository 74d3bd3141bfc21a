"""A demonstration: a question, what the model says, what this kernel does, and a recording where nobody may ask."""

import errno
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from labkit.errors import BadInput, NotAllowed, SyscallError, errno_name
from labkit.machine import DATA

FORMAT = "labkit-demo-1"
RECORDINGS = DATA / "recordings"
Value = int | str
Answers = dict[str, Value]


class Seen(NamedTuple):
    """What a kernel did: the short answers by what was asked, and the table that they were read from."""

    answers: Answers
    columns: tuple[str, ...]
    rows: list[list[Value]]


@dataclass(frozen=True, slots=True)
class Demo:
    """One demonstration. `name` is its recording's, too."""

    name: str
    title: str
    question: str
    """To be answered before it is shown."""
    safety: str
    """What it changes in the machine, and how that is undone."""
    sentence: str
    """What follows for phyrs."""
    kernel: Callable[[], Seen]
    """Ask the kernel under our feet. Raises NotAllowed, SyscallError where that cannot be."""
    model: Callable[[], Answers] = dict
    """Ask the simulated machine, of what it knows."""

    def show(self, directory: Path = RECORDINGS) -> "Shown":
        """Ask the kernel now; where this machine does not allow it, take the recording in `directory`."""
        try:
            return Shown(self, self.kernel(), self.model())
        except (NotAllowed, SyscallError) as no:
            return self.replay(directory, str(no))

    def replay(self, directory: Path = RECORDINGS, why: str = "") -> "Shown":
        """Return the recording in `directory`, and `why` it is shown; the model is asked now. Raises BadInput."""
        kept = load(directory / f"{self.name}.json")
        seen = Seen(kept["answers"], tuple(kept["columns"]), kept["rows"])
        return Shown(self, seen, self.model(), kept["recorded"], why)

    def record(self, directory: Path, release: str) -> Path:
        """Ask the kernel, which is `release`, and keep what it did in `directory`. Raises NotAllowed, SyscallError."""
        made = {"date": datetime.now(UTC).date().isoformat(), "kernel": release}
        kept = {"format": FORMAT, "name": self.name, "recorded": made, **self.kernel()._asdict()}
        rows = ",\n".join(f"  {json.dumps(row)}" for row in kept.pop("rows"))
        lines = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in kept.items())
        path = directory / f"{self.name}.json"
        path.write_text(f'{{\n{lines} "rows": [\n{rows}\n ]\n}}\n', "utf-8")
        return path


@dataclass(frozen=True, slots=True)
class Shown:
    """What came of a demonstration. `recorded`: date and kernel of the recording it is, None where it happened now."""

    demo: Demo
    seen: Seen
    model: Answers
    recorded: dict[str, str] | None = None
    why: str = ""

    @property
    def differences(self) -> tuple[str, ...]:
        """What model and kernel disagree about, of what both speak of."""
        both = self.seen.answers.keys() & self.model.keys()
        return tuple(what for what in self.seen.answers if what in both and self.seen.answers[what] != self.model[what])

    @property
    def agree(self) -> bool:
        """Whether the model is right."""
        return not self.differences

    @property
    def line(self) -> str:
        """Whether it happened now, or is a recording, and then the reason and the remedy."""
        if self.recorded is None:
            return "Asked just now: the kernel under your feet."
        why = f"{self.why}. Shown instead: a" if self.why else "A"
        return f"{why} recording of {self.recorded['date']}, Linux {self.recorded['kernel']}."

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        demo = self.demo
        told = {"title": demo.title, "question": demo.question, "safety": demo.safety, "sentence": demo.sentence}
        how = {"live": self.recorded is None, "recorded": self.recorded, "line": self.line}
        both = {"kernel": self.seen.answers, "model": self.model, "agree": self.agree}
        return told | how | both | {"columns": list(self.seen.columns), "rows": self.seen.rows}


def load(path: Path) -> dict[str, Any]:
    """Return the recording at `path`. Raises BadInput where there is none, or another thing."""
    try:
        kept = json.loads(path.read_text("utf-8"))
    except OSError as no:
        raise BadInput("demo", path.name, f"cannot be read: {no.strerror}", no.errno or errno.EIO) from None
    except ValueError:
        raise BadInput("demo", path.name, "is no JSON", errno.EINVAL) from None
    parts = {"answers": dict, "columns": list, "rows": list, "recorded": dict}
    whole = isinstance(kept, dict) and kept.get("format") == FORMAT
    if not whole or any(not isinstance(kept.get(part), kind) for part, kind in parts.items()):
        raise BadInput("demo", path.name, f"is no recording of the format {FORMAT}", errno.EINVAL)
    return dict(kept)


def said(result: int) -> Value:
    """Return what a call said: bytes, or the name of its errno."""
    return result if result >= 0 else errno_name(-result)
