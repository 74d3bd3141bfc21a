from labkit.trace.trace import Trace
from labkit.widgets.pcie import sample, scene


def test_it_opens_where_the_request_arrives():
    found = scene(sample())
    assert found.steps[found.poster].layer == "gpu"


def test_the_legend_has_the_ways_that_are_drawn():
    assert dict(scene(sample()).legend) == {
        "x-mapped": "through the host bridge",
        "x-bus": "over the switch alone",
    }


def test_without_a_tree_there_is_no_picture():
    assert scene(Trace(())).figures == {}
