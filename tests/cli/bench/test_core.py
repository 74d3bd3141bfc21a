from labkit.cli.bench import core


def test_both_loops_end_every_io_at_the_same_ns():
    todo = core.work(seed=3)
    ours, theirs = core.readable(todo), core.by_hand(todo)
    assert len(ours[1]) == sum(len(each) for each in todo)
    assert ours[1] == theirs[1] == sorted(ours[1])


def test_an_io_alone_takes_the_sum_of_its_steps(monkeypatch):
    monkeypatch.setattr(core, "JOBS", 1)
    monkeypatch.setattr(core, "TIMING", core.Timing(submit=1, die=10, link=100, irq=1000, dies=2))
    assert core.readable([[(5, 0), (7, 1)]])[1] == [1116, 2234]
    assert core.by_hand([[(5, 0), (7, 1)]])[1] == [1116, 2234]
