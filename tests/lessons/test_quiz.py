from labkit.lessons.first_io import DMA, PHYRS
from labkit.machine import Machine


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
