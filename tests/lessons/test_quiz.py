from itertools import islice

import numpy as np
import pytest

from labkit.lessons import kinds, memory, pins, walk
from labkit.lessons.first_io import DMA, PHYRS
from labkit.lessons.quiz import Exercise, Question
from labkit.machine import Machine

MODULES = (memory, walk, pins, kinds)
NUMBER = Exercise("How many?", 16, "Count them (MM-9).")
WORD = Exercise("Which errno?", "EFAULT", "The first no counts.", ("works", "EFAULT"))


def trace(**knobs):
    machine = Machine(size="64 KiB", fragmentation=1, seed=7, **knobs)
    machine.run()
    return machine.trace


def test_a_right_guess_is_told_so():
    assert PHYRS.check(trace(iommu="strict"), 16) == "Yes: 16."


def test_a_wrong_guess_gets_the_answer_and_the_reason():
    assert PHYRS.check(trace(iommu="strict"), 1).startswith("Not 1: 16. On an aged machine")


def test_the_answer_comes_from_the_run_not_from_the_question():
    assert DMA.check(trace(iommu="strict"), 1) == "Yes: 1."
    assert DMA.check(trace(iommu="off"), 16) == "Yes: 16."


@pytest.mark.parametrize("guess", [16, 16.0, np.int64(16)])
def test_a_number_is_a_number_however_it_is_written(guess):
    assert NUMBER.check(guess) == "Yes: 16."


@pytest.mark.parametrize(
    ("guess", "told"),
    [("16", "'16'"), (None, "None"), (True, "True"), (16.5, "16.5"), ([16], "[16]"), (float("nan"), "nan")],
)
def test_what_is_no_number_gets_one_clear_sentence(guess, told):
    assert NUMBER.check(guess) == f"The answer is a whole number, and {told} is none."


def test_a_long_guess_is_not_repeated_in_full():
    assert len(NUMBER.check("x" * 10_000)) < 100


@pytest.mark.parametrize("guess", ["EFAULT", "efault", "-EFAULT", " -EFAULT "])
def test_an_errno_may_be_written_as_people_write_it(guess):
    assert WORD.check(guess) == "Yes: EFAULT."


@pytest.mark.parametrize("guess", ["EINVAL", 14, -14, None, ""])
def test_a_word_that_is_not_offered_gets_the_words_that_are(guess):
    assert WORD.check(guess) == f"The answer is one of works, EFAULT, and {guess!r} is none."


def test_three_dots_are_no_guess_yet_and_the_answer_stays_hidden():
    assert NUMBER.check(...) == WORD.check(...) == "No guess yet: put yours in the place of the three dots."


def test_an_exercise_shows_its_question_alone():
    assert repr(NUMBER) == str(NUMBER) == "How many?"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_same_seed_gives_the_same_questions_and_keys(module):
    first, second, other = (list(islice(module.endless(seed), 20)) for seed in (7, 7, 8))
    assert first == second
    assert [(each.text, each.answer) for each in first] == [(each.text, each.answer) for each in second]
    assert [each.text for each in first] != [each.text for each in other]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_exercise_knows_its_answer_and_says_why(module):
    for each in islice(module.endless(1), 60):
        assert each.text.endswith(("?", ".)", "?)"))
        assert each.check(each.answer) == f"Yes: {each.answer}."
        assert each.answer in each.choices if isinstance(each.answer, str) else each.choices == ()
        assert each.hint.endswith((".", ")"))
        assert not each.hint[0].isdigit()  # it comes after the answer, which often is a number
        wrong = next((word for word in each.choices if word != each.answer), -1)
        assert each.check(wrong) == f"Not {wrong}: {each.answer}. {each.hint}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_question_offers_its_words_and_gives_a_reason_with_a_full_stop(module):
    questions = [value for value in vars(module).values() if isinstance(value, Question)]
    assert len(questions) > 5
    assert all(each.text.endswith("?") and each.hint.endswith(".") for each in questions)
    assert not [each.hint for each in questions if each.hint[0].isdigit()]
