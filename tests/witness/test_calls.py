import pytest

from labkit.kernel.fs.bdev import BlockDeviceFile
from labkit.witness.calls import CALLS, Call, ask

pytestmark = pytest.mark.host


def test_the_model_and_this_kernel_agree_on_every_call():
    answers = ask()
    assert [answer for answer in answers if not answer.agree] == []
    assert len(answers) == len(CALLS) == 14


def test_both_say_what_the_rules_say():
    said = {answer.call: answer.kernel for answer in ask()}
    assert said[Call("read", 0, 4096, 0)] == 4096
    assert said[Call("read", 0, 4096, 100)] == "-EINVAL"
    assert said[Call("read", 0, 8192, -4096)] == 4096
    assert said[Call("write", 0, 4096, 1 << 40)] == "-ENOSPC"


def test_a_model_with_a_wrong_rule_is_found_out(monkeypatch):
    monkeypatch.setattr(BlockDeviceFile, "check", lambda _self, _call, _pos, nbytes, **_write: nbytes)
    assert {answer.call.pos for answer in ask() if not answer.agree} >= {100, 1 << 40}
