import pytest

from labkit.cli.bench import engine as bench
from labkit.cli.bench.engine import drive_of, engine, machine_of, naive, work
from labkit.errors import InvariantError
from labkit.machine import Machine


def test_both_models_end_every_io_at_the_same_ns_with_the_same_bytes():
    with machine_of() as machine, machine_of() as other:
        todo = work(machine.device.nbytes, jobs=4, ios=120)
        theirs, ours = naive(todo, other), engine(todo, machine)
    assert len(ours[1]) == 120
    assert ours[1:] == theirs[1:]
    assert ours[2] == b"".join(each[-1][1].to_bytes(8, "little") + bytes(4088) for each in todo)


def test_both_tell_of_every_step():
    with machine_of() as machine, machine_of() as other:
        todo = work(machine.device.nbytes, jobs=1, ios=1)
        fill = bench.NaiveMachine(other.cpu, drive_of(other), other.queue.limits, [0], other.medium.media)
        fill.env.process(fill.job(0, todo[0]))
        fill.env.run()
        engine(todo, machine)
        mine = {type(rec).__name__.lower() for rec in machine.trace.records}
    theirs = {row["event"].replace("_", "").lower() for row in fill.log}
    assert theirs <= mine
    assert len(theirs) == 16


def test_the_comparison_looks_for_work_in_which_nobody_meets(monkeypatch):
    monkeypatch.setattr(bench, "IOS", 400)
    monkeypatch.setattr(bench, "work", lambda nbytes, seed: work(nbytes, jobs=8, ios=400, seed=seed))
    found = bench.compare(1, lambda _what: None)
    assert (found.rounds, found.unit, found.aim) == (1, "IO/CPU s", 10)
    assert found.ratio == pytest.approx(found.ours / found.other)


def test_models_that_never_agree_are_an_error(monkeypatch):
    monkeypatch.setattr(bench, "work", lambda nbytes, seed: work(nbytes, jobs=2, ios=4, seed=seed))
    monkeypatch.setattr(bench, "naive", lambda _todo, _machine: (1.0, [], b""))
    with pytest.raises(InvariantError, match="never end at the same ns in both models"):
        bench.agreeing(lambda _what: None)


def test_only_flash_behind_nvme_can_be_modelled():
    with Machine(device="null") as machine, pytest.raises(InvariantError, match="is no flash behind NVMe"):
        drive_of(machine)
