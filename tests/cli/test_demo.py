import errno
import json
from dataclasses import replace

import pytest

from labkit.cli.demo import show_demos
from labkit.errors import BadInput, NotAllowed
from labkit.witness.demos import DEMOS


@pytest.fixture
def nobody(monkeypatch):
    """Nothing may be asked here: every demonstration plays its recording."""

    def refuse():
        raise NotAllowed("pagemap", "/proc/self/pagemap", "hides the frames: run as root", errno.EPERM)

    for name, demo in DEMOS.items():
        monkeypatch.setitem(DEMOS, name, replace(demo, kernel=refuse))


@pytest.mark.usefixtures("nobody")
def test_where_nothing_may_be_asked_all_of_it_is_shown_from_recordings(capsys):
    assert show_demos([], json=True, listed=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == list(DEMOS)
    for row in told.values():
        assert row["live"] is False
        assert row["line"].startswith("pagemap: /proc/self/pagemap hides the frames: run as root (-EPERM). Shown inst")
        assert row["agree"] is True
        assert row["rows"]


@pytest.mark.usefixtures("nobody")
def test_a_reader_is_asked_first_and_told_the_rows_and_what_the_model_says(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert show_demos(["registered-pins"], json=False, listed=False) == 0
    out = capsys.readouterr().out
    at = [out.index(part) for part in (
        "Registered buffers take no pins", "how many when the buffer was registered before?", "Shown instead:",
        "5 reads by READ_FIXED", "✓ the model says the same", "Pins are paid for once",
    )]  # fmt: skip
    assert at == sorted(at)


@pytest.mark.usefixtures("nobody")
def test_what_the_model_does_not_know_and_what_it_gets_wrong_is_said(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    show_demos(["collapse"], json=False, listed=False)
    assert "The model has nothing to say about this." in capsys.readouterr().out
    wrong = replace(DEMOS["fork-copies"], model=lambda: {"other pages that it copies": 16})
    monkeypatch.setitem(DEMOS, "fork-copies", wrong)
    assert show_demos(["fork-copies"], json=False, listed=False) == 0
    said = "✗ the model says otherwise: other pages that it copies: 16, the kernel says 0"
    assert said in capsys.readouterr().out


def test_the_list_asks_and_shows_nothing(capsys):
    assert show_demos([], json=True, listed=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == list(DEMOS)
    assert {key for row in told.values() for key in row} == {"title", "question", "safety"}
    assert show_demos(["collapse"], json=False, listed=True) == 0
    assert "collapse" in capsys.readouterr().out


def test_a_name_that_is_none_is_bad_input_and_names_the_others():
    with pytest.raises(BadInput, match="demo: levitation is none of memory-kinds, registered-pins,") as bad:
        show_demos(["collapse", "levitation"], json=True, listed=False)
    assert bad.value.exit_code == 2


@pytest.mark.usefixtures("nobody")
def test_a_name_that_is_given_twice_is_shown_once(capsys):
    show_demos(["collapse", "collapse"], json=True, listed=False)
    assert list(json.loads(capsys.readouterr().out)) == ["collapse"]
