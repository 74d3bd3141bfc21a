from labkit.trace.trace import Trace
from labkit.widgets import extents


def test_the_legend_names_what_is_drawn_and_nothing_else():
    names = [name for name, _ in extents.scene(extents.sample()).legend]
    assert names == ["x-mapped", "x-hole", "x-unwritten", "x-shared", "x-zero", "x-bio"]


def test_it_opens_before_the_last_bio_is_done():
    scene = extents.scene(extents.sample())
    assert scene.steps[scene.poster + 1].function == "blk_mq_end_request"


def test_a_layout_shows_what_the_trace_does_not_tell():
    scene = extents.scene(extents.sample(), [(0, 98304, 1 << 20, "unwritten")])
    assert scene.head.startswith("Five extents")


def test_without_records_there_is_a_headline_and_no_picture():
    scene = extents.scene(Trace(()))
    assert (scene.figures, scene.head) == ({}, "A file of 0 B, no bios")
