from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from labkit.errors import NotAllowed
from labkit.witness.demos import compaction
from labkit.witness.demos.compaction import DEMO, kernel, model


def test_of_the_registered_pages_none_moves():
    (_, pinned, moved), (_, others, went) = DEMO.replay().seen.rows
    assert (pinned, moved) == (1024, 0)
    assert 0 < went <= others == 7168


def test_the_model_moves_what_nobody_holds():
    assert model() == {"registered pages that move": 0, "others move": "yes"}


@pytest.mark.host
def test_where_nothing_moves_nothing_is_said_about_pins(monkeypatch):
    monkeypatch.setattr(compaction, "compact_memory", lambda: None)
    monkeypatch.setattr(compaction, "_TRIES", 1)
    with pytest.raises(NotAllowed, match="none of 7168 pages are moved by compaction, though nobody holds them"):
        kernel()


@pytest.mark.parametrize(
    ("moved", "told"),
    [
        ([(0, 7), (0, 2000), (0, 3000)], (0, 2000)),  # enough
        ([(0, 7), (0, 90), (0, 3), (0, 8)], (0, 90)),  # the most of four
        ([(0, 7), (1, 3), (0, 3000)], (1, 3)),  # nothing is more than a registered page that moves
    ],
)
def test_a_buffer_that_compaction_hardly_reaches_is_followed_by_another(monkeypatch, moved, told):
    rounds = iter(moved)
    monkeypatch.setattr(compaction, "OwnPages", lambda _: nullcontext(SimpleNamespace(touch=list)))
    monkeypatch.setattr(
        compaction, "_compact", lambda _: compaction.Moved(*(n for x in next(rounds) for n in (x, 7168)))
    )
    (_, _, pinned), (_, _, others) = kernel().rows
    assert (pinned, others) == told
