"""What it costs to watch this machine's kernel, as `labkit bench --device kernel` measures it."""

import pytest

from labkit.cli.bench import kernel
from labkit.cli.bench.kernel import Cost
from labkit.errors import InvariantError
from labkit.host.probe import probe
from labkit.witness import outcome

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not probe()["tracefs"].ok, reason=f"no trace here: {probe()['tracefs'].remedy}"),
]


@pytest.fixture
def small(monkeypatch):
    """Measure few and little."""
    monkeypatch.setattr(kernel, "_BULK", 500)
    monkeypatch.setattr(kernel, "_GIB", 4 << 20)
    monkeypatch.setattr(kernel, "_IOS", 4)


@pytest.mark.usefixtures("small")
def test_every_cost_is_measured_and_told_what_it_is_and_named_what_is_aimed_at():
    told = list[str]()
    found = kernel.measure(1, told.append)
    assert [cost.aim for cost in found] == [130, 130, 130, 2000, 15e6, 2e6]
    assert told == ["an event", "parsing events", "the frames of 1 GiB", "captured, predicted, compared"]
    parsed, frames, whole = (cost.ns for cost in found[3:])
    assert 100 < parsed < 1e6
    assert frames > 1000
    assert whole > 50_000


@pytest.mark.usefixtures("small")
def test_an_io_that_is_not_as_predicted_is_no_measure(monkeypatch):
    predict = outcome.predict
    monkeypatch.setattr(outcome, "predict", lambda capture: predict(capture)._replace(result=[0]))
    with pytest.raises(InvariantError, match="predicted 0, recorded 4096"):
        kernel.measure(1, lambda _: None)


def test_a_cost_is_reached_below_its_aim():
    assert Cost("x", 99.96, 100, "once").as_dict() == {
        "name": "x", "ns": 100.0, "aim": 100, "how": "once", "reached": True
    }  # fmt: skip
    assert not Cost("x", 101, 100, "once").as_dict()["reached"]
