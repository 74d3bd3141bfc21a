from labkit.views.zones import zones as columns
from labkit.widgets import zones


def table(fig, name):
    return fig.select_one({"name": name}).data


def test_each_migratetype_has_a_colour_and_a_hatch_of_its_own():
    looks = [zones._LOOKS[f"type{i}"] for i in range(6)]
    assert len({look["fill_color"] for look in looks}) == 6
    assert len({look["hatch_pattern"] for look in looks}) == 6


def test_amounts_have_ten_steps_of_cividis():
    fig = zones.figure(columns(*zones.sample()))
    bad = table(fig, "rects_bad")
    assert bad["color"][0] == "#00224e"
    assert set(bad["color"]) <= set(zones.CIVIDIS)
    assert len(bad["left"]) == 2 * 4 * 11


def test_memory_without_struct_pages_is_hatched():
    fig = zones.figure(columns(*zones.sample()))
    assert len(table(fig, "rects_pageless")["left"]) == 1
    assert zones._LOOKS["pageless"]["hatch_pattern"] == "right_diagonal_line"


def test_it_opens_at_blocks_of_2_mib_of_the_largest_zone():
    scene = zones.scene(*zones.sample())
    assert scene.steps[scene.poster].clock == "Normal, order 9"


def test_the_headline_says_what_the_picture_shows():
    assert zones.scene(*zones.sample()).head == (
        "Free memory in blocks of 2 MiB and more: over 99 % at “fresh boot”, 21 % at “months of uptime”"
    )
