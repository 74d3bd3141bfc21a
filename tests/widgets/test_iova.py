from labkit.trace.trace import Trace
from labkit.widgets.iova import sample, scene


def test_it_opens_in_the_window_in_which_the_device_still_reaches_the_memory():
    found = scene(sample())
    assert found.steps[found.poster].text.startswith("The device addresses of request 1 are given back, yet stay")


def test_only_meters_that_ever_count_are_shown():
    assert list(scene(sample()).meters) == ["live", "stale", "cached", "hits", "misses"]


def test_the_legend_names_what_is_drawn():
    assert dict(scene(sample()).legend)["x-stale"] == "unmapped, still reachable"
    assert "x-bounce" not in dict(scene(sample()).legend)


def test_without_a_mapping_there_is_no_picture():
    assert scene(Trace(())).figures == {}
