import numpy as np
import pytest

from labkit.errors import NotAllowed
from labkit.host.memory.frames import Frames
from labkit.witness.demos import fork_copies
from labkit.witness.demos.fork_copies import DEMO, model


def test_registered_pages_are_copied_and_the_others_shared():
    for page, registered, what, ours, theirs in DEMO.replay().seen.rows:
        assert (registered, what) == (("yes", "copied") if page < 8 else ("no", "shared"))
        assert (ours == theirs) == (page >= 8)


def test_the_model_copies_as_the_kernel_does():
    assert model() == {"registered pages that fork copies": 8, "other pages that it copies": 0}


def test_who_sees_no_frames_is_told_which_pages_are_the_parents_own(monkeypatch, live):
    real = fork_copies.frames
    monkeypatch.setattr(fork_copies, "frames", lambda *at: Frames(None, real(*at).exclusive))
    shown = live(DEMO)
    assert shown.seen.columns == ("page", "registered", "at fork")
    assert shown.seen.answers == {"registered pages that fork copies": 8, "other pages that it copies": 0}


@pytest.mark.parametrize("copied", [[False] * 16, [True] * 16])
def test_a_fork_that_would_copy_otherwise_is_found_out(monkeypatch, live, copied):
    monkeypatch.setattr(fork_copies, "frames", lambda *_: Frames(None, np.array(copied)))
    assert not live(DEMO).agree


@pytest.mark.usefixtures("able")
def test_frames_that_do_not_stay_tell_nothing(monkeypatch):
    frames = (Frames(np.arange(at, at + 16), np.ones(16, bool)) for at in range(1, 99))
    monkeypatch.setattr(fork_copies, "frames", lambda *_: next(frames))
    with pytest.raises(NotAllowed, match="do not stay: let compaction end"):
        fork_copies.kernel()
