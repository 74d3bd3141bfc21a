from labkit.trace.trace import Trace
from labkit.widgets.descriptors import sample, scene


def test_it_opens_at_the_first_address():
    found = scene(sample())
    assert found.steps[found.poster].text.startswith("PRP1 is 0xffff_8200")


def test_the_command_of_one_request_can_be_chosen():
    assert scene(sample(), rq=1).head == "NVMe command 7: 12 KiB by PRPs"
    assert scene(sample(), rq=2).head == "No command"


def test_the_legend_says_what_kinds_of_fields_there_are():
    assert ("x-fpointer", "leads to more") in scene(sample()).legend


def test_without_a_command_there_is_no_picture():
    assert scene(Trace(())).figures == {}
