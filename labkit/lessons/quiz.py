"""Predict, then reveal: a question about a run, checked offline against the run itself."""

from collections.abc import Callable
from dataclasses import dataclass

from labkit.trace.trace import Trace


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and how the trace answers it."""

    text: str
    answer: Callable[[Trace], int]
    hint: str

    def check(self, trace: Trace, guess: int) -> str:
        """Return one sentence: right, or the answer and why."""
        right = self.answer(trace)
        if guess == right:
            return f"Yes: {right}."
        return f"Not {guess}: {right}. {self.hint}"
