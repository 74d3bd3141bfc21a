import re
import socket

import pytest

from labkit.host.release import kernel_version
from labkit.witness.demos import DEMOS
from labkit.witness.demos.demo import RECORDINGS

ROOTS = {"registered-pins", "compaction", "split-under-pin", "frames-through-loop"}
"""Demonstrations that only root may see; of others root sees more."""
EVERY = [pytest.param(demo, id=name, marks=[pytest.mark.host] * (name in ROOTS)) for name, demo in DEMOS.items()]


def test_they_are_told_in_this_order():
    assert list(DEMOS) == [
        "memory-kinds", "registered-pins", "fork-copies", "collapse", "compaction", "split-under-pin",
        "munmap-registered", "frames-through-loop",
    ]  # fmt: skip


@pytest.mark.parametrize("demo", DEMOS.values(), ids=DEMOS)
def test_each_asks_before_it_shows_and_says_what_it_does_to_the_machine(demo):
    assert demo.question.endswith("?")
    assert demo.title
    assert demo.safety.endswith(".")
    assert demo.sentence.endswith(".")


@pytest.mark.parametrize("demo", DEMOS.values(), ids=DEMOS)
def test_each_has_a_recording_of_a_real_kernel_with_which_the_model_agrees(demo):
    shown = demo.replay()
    assert re.fullmatch(r"\d+\.\d+\.\d+", shown.recorded["kernel"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", shown.recorded["date"])
    assert shown.seen.answers
    assert {len(row) for row in shown.seen.rows} == {len(shown.seen.columns)}
    assert shown.differences == ()


@pytest.mark.parametrize("demo", DEMOS.values(), ids=DEMOS)
def test_no_recording_names_the_machine_or_shows_frame_zero(demo):
    text = (RECORDINGS / f"{demo.name}.json").read_text()
    assert socket.gethostname() not in re.findall(r"\w+", text)
    assert '"0x0"' not in text


@pytest.mark.parametrize("demo", EVERY)
def test_this_kernel_says_what_the_recording_says(demo, live):
    shown, kept = live(demo), demo.replay()
    assert shown.differences == ()
    both = shown.seen.answers.keys() & kept.seen.answers.keys()
    assert len(both) >= 2
    if kernel_version().startswith("6.18"):
        assert {what: shown.seen.answers[what] for what in both} == {what: kept.seen.answers[what] for what in both}
