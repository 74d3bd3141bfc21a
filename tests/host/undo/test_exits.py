import pytest

from labkit.host import signals
from labkit.host.undo import exits

SCRIPT = """
import os, sys
from labkit.host.undo import exits
class Thing:
    def __init__(self, name): self.name = name; exits.hold(self)
    def close(self): print(self.name, flush=True); exits.release(self); self.name == "bad" and 1 / 0
kept = [Thing("first"), Thing("bad"), Thing("last")]
"""


class Thing:
    def close(self):
        raise AssertionError


def test_at_the_exit_the_newest_goes_first_and_a_failure_does_not_stop_the_rest(start):
    out, err = start(SCRIPT).communicate(timeout=20)
    assert (out.split(), err) == (["last", "bad", "first"], "")


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), 15); import time; time.sleep(9)", "sys.exit(3)", "1 / 0"])
def test_so_it_is_by_a_signal_and_by_an_exception(start, how):
    child = start(SCRIPT + how)
    assert child.communicate(timeout=20)[0].split() == ["last", "bad", "first"]
    assert child.returncode == {"os": 143, "sy": 3, "1 ": 1}[how[:2]]


def test_what_was_closed_is_not_closed_again(start):
    out, _ = start(SCRIPT + "kept[1].name = 'good'; kept[1].close(); kept[0].close()").communicate(timeout=20)
    assert out.split() == ["good", "first", "last"]


def test_a_forked_child_closes_nothing_of_its_parents(start):
    out, _ = start(SCRIPT + "if not os.fork(): sys.exit(0)\nos.wait(); print('waited', flush=True)").communicate(
        timeout=20
    )
    assert out.split() == ["waited", "last", "bad", "first"]


def test_the_last_one_gives_the_signals_back():
    before, one, other = signals.signal.getsignal(15), Thing(), Thing()
    exits.hold(one)
    exits.hold(other)
    during = signals.signal.getsignal(15)
    exits.release(one)
    assert signals.signal.getsignal(15) is during
    exits.release(other)
    exits.release(other)
    assert signals.signal.getsignal(15) is before
