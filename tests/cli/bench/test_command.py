import json

import pytest

from labkit.cli.bench import command
from labkit.cli.bench.kernel import Cost
from labkit.cli.bench.ratio import Ratio
from labkit.errors import BadInput, NotAllowed

COST = Cost("another thing", 140.0, 130, "once")
FOUND = Ratio.of("a thing", [(30.0, 10.0)], "another", "IO/s", 2)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """Let each measurement be over at once: the simulated ones find FOUND, and the loop device is not to be had."""

    def refuse(*_):
        raise NotAllowed("loop", "/dev/loop-control", "needs root", 1)

    for module in (command.engine, command.core):
        monkeypatch.setattr(module, "compare", lambda _rounds, _tick: FOUND)
    monkeypatch.setattr(command.copies, "compare", lambda _rounds, tick: [tick("now"), FOUND][1:])
    monkeypatch.setattr(command.loop, "compare", refuse)
    monkeypatch.setattr(command.kernel, "measure", lambda _rounds, _tick: [COST])


def test_json_has_every_ratio_and_says_what_was_left_out(capsys):
    assert command.run_bench("all", rounds=1, seconds=1, json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ratios"] == [FOUND.as_dict()] * 3
    assert told["costs"] == [COST.as_dict()]
    assert told["left_out"] == ["loop: /dev/loop-control needs root (-EPERM)"]


def test_a_terminal_sees_a_table(capsys):
    assert command.run_bench("simulated", rounds=1, seconds=1, json=False) == 0
    out = capsys.readouterr().out
    assert "3.00 ✓" in out
    assert "needs root" not in out
    assert "what it costs" not in out
    assert command.run_bench("kernel", rounds=1, seconds=1, json=False) == 0
    out = capsys.readouterr().out
    assert "140 –" in out
    assert "ratio" not in out


def test_whoever_asks_for_the_loop_device_hears_why_not():
    with pytest.raises(NotAllowed, match="needs root"):
        command.run_bench("loop", rounds=1, seconds=1, json=True)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"device": "floppy"}, "bench: device='floppy' is none of all, simulated, loop, kernel (-EINVAL)"),
        ({"rounds": 0}, "bench: rounds=0 is not from 1 to 100 (-EINVAL)"),
        ({"seconds": 61}, "bench: seconds=61 is not from 1 to 60 (-EINVAL)"),
    ],
)
def test_nonsense_is_refused_before_anything_is_measured(how, sentence):
    with pytest.raises(BadInput) as bad:
        command.run_bench(**{"device": "all", "rounds": 1, "seconds": 1, "json": True} | how)
    assert str(bad.value) == sentence
