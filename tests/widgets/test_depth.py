from labkit.trace.trace import Trace
from labkit.widgets.depth import sample, scene


def test_it_opens_where_something_breaks():
    found = scene(sample())
    assert found.steps[found.poster].text == "Request 12 has been with its driver for too long: abort."


def test_without_a_fault_it_opens_in_the_middle():
    found = scene(Trace(sample().records[:30]))
    assert found.poster == len(found.steps) // 2


def test_meters_stand_for_each_step():
    found = scene(sample())
    assert {len(values) for values in found.data["meters"].values()} == {len(found.steps)}
    assert found.data["meters"]["done"][-1] == 12


def test_without_requests_there_is_no_picture():
    assert scene(Trace(())).figures == {}
