from labkit.trace.trace import Trace
from labkit.widgets import requests


def test_several_systems_are_compared_in_the_headline_and_one_is_told_of():
    assert requests.scene(requests.sample()).head == "Page: three requests; phyr: one request"
    assert requests.scene(requests.sample()["page"]).head == "16 vectors, one bio, three requests, two cuts"


def test_it_opens_while_requests_are_with_the_driver():
    scene = requests.scene(requests.sample())
    assert scene.steps[scene.poster].function == "blk_mq_start_request"


def test_the_legend_knows_a_plug_only_where_there_is_one():
    both = requests.sample()
    assert "x-plug" in [name for name, _ in requests.scene(both).legend]
    assert "x-plug" not in [name for name, _ in requests.scene(both["page"]).legend]


def test_without_bios_there_is_no_picture():
    assert requests.scene(Trace(())).figures == {}
