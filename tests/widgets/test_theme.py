import re
from itertools import product
from pathlib import Path

import pytest

import labkit.widgets
from labkit.widgets.theme import DARK, LIGHT, contrast, luminance, state

ENOUGH = 4.5
"""What WCAG 2 wants of text, level AA."""


def test_contrast_is_the_standard_one():
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#FFFFFF", "#767676") == pytest.approx(4.54, abs=0.01)
    assert luminance("#FFFFFF") == 1


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "paper"), [*product(("ink", "mid", "faint"), ("paper", "card"))])
def test_text_can_be_read_on_paper_and_cards(palette, ink, paper):
    assert contrast(palette[ink], palette[paper]) >= ENOUGH


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("hue", [*(f"hue{i}" for i in range(8)), "grey"])
def test_text_can_be_read_on_every_hue(palette, hue):
    assert contrast(palette[hue.replace("hue", "on") if hue != "grey" else "ongrey"], palette[hue]) >= ENOUGH


def test_each_light_colour_has_one_dark_partner():
    assert LIGHT.keys() == DARK.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in (*LIGHT.values(), *DARK.values()))


def test_the_style_sheet_names_only_colours_that_there_are():
    css = (Path(labkit.widgets.__file__).parent / "chrome.css").read_text()
    assert set(re.findall(r"var\(--([a-z0-9_]+)\)", css)) - {"at", "key", "edge"} <= LIGHT.keys()


def test_a_shape_goes_through_five_states():
    assert [state(at, 3, 10, 14, 15) for at in (2, 3, 10, 14, 15)] == [0, 1, 2, 3, 4]
