"""Predict, then reveal: a question about a run, checked offline against the run itself, and endless exercises."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import index
from random import Random
from typing import Any

Answer = int | str
"""A number, or one of the words that the question offers."""
_LONGEST = 40
"""Letters of a guess that are repeated in the answer to it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a run (a trace, a machine, free lists, ...), and how the run answers it."""

    text: str
    answer: Callable[[Any], Answer]
    hint: str
    choices: tuple[str, ...] = ()
    """The words that may be the answer, where it is no number."""

    def check(self, run: Any, guess: object) -> str:
        """Return one sentence: right, or the answer and why; or what kind of answer is wanted."""
        return judge(self.answer(run), guess, self.hint, self.choices)


@dataclass(frozen=True, slots=True, repr=False)
class Exercise:
    """One question of an endless series. The answer is there, and does not show."""

    text: str
    answer: Answer
    hint: str
    choices: tuple[str, ...] = ()

    def check(self, guess: object) -> str:
        """Return one sentence, as Question.check does."""
        return judge(self.answer, guess, self.hint, self.choices)

    def __repr__(self) -> str:
        """Return the question alone."""
        return self.text


def endless(seed: int, makers: Sequence[Callable[[Random], Exercise]]) -> Iterator[Exercise]:
    """Yield exercises without end: one of each of `makers`, in mixed order, and again. A seed has one series."""
    rng = Random(seed)  # noqa: S311 - questions, not secrets
    while True:
        for make in rng.sample(makers, len(makers)):
            yield make(rng)


def judge(right: Answer, guess: object, hint: str, choices: tuple[str, ...] = ()) -> str:
    """Return one sentence about `guess`, where `right` is the answer: a number, or one of `choices`."""
    if guess is ...:
        return "No guess yet: put yours in the place of the three dots."
    meant = _word(guess, choices) if isinstance(right, str) else _number(guess)
    if meant is None:
        wanted = f"one of {', '.join(choices)}" if isinstance(right, str) else "a whole number"
        return f"The answer is {wanted}, and {repr(guess)[:_LONGEST]} is none."
    return f"Yes: {right}." if meant == right else f"Not {meant}: {right}. {hint}"


def _number(guess: object) -> int | None:
    """Return a guess as a number; None for what is no whole one. True is a word here."""
    if isinstance(guess, float) and guess.is_integer():
        return int(guess)
    try:
        return None if isinstance(guess, bool) else index(guess)  # type: ignore[arg-type]  # that is the test
    except TypeError:
        return None


def _word(guess: object, choices: tuple[str, ...]) -> str | None:
    """Return which of `choices` was meant, capitals, blanks and the minus of an errno aside; None for none of them."""
    if not isinstance(guess, str):
        return None
    plain = guess.strip().lstrip("-").casefold()
    return next((word for word in choices if word.casefold() == plain), None)
