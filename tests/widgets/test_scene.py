"""What the three pictures with steps have in common: plain JSON, text in a terminal, escaped markup, a page."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.views.steps import Step
from labkit.widgets import extents, frames, pins, requests, residual, sequence, split, walk, zones
from labkit.widgets.scene import Scene, item, standalone
from labkit.widgets.theme import DARK, LIGHT, contrast

MADE = {
    "zones": lambda: zones.Zones(*zones.sample(), theme="dark"),
    "walk": lambda: walk.Walk(*walk.sample(), theme="dark"),
    "pins": lambda: pins.Pins(pins.sample(), theme="dark"),
    "extents": lambda: extents.Extents(extents.sample(), theme="dark"),
    "requests": lambda: requests.Requests(requests.sample(), theme="dark"),
    "split": lambda: split.Split(*split.sample(), theme="dark"),
    "frames": lambda: frames.Frames(*frames.sample(), theme="dark"),
    "sequence": lambda: sequence.Sequence(*sequence.sample(), theme="dark"),
    "residual": lambda: residual.Residual(residual.sample(), theme="dark"),
}


@pytest.mark.parametrize("name", MADE)
def test_each_has_a_document_for_two_widths_and_is_plain_json(name):
    widget = MADE[name]()
    value = json.loads(json.dumps(widget.item))
    assert sorted(value["item"]) == ["narrow", "wide"]
    assert value["data"]["n"] == len(value["data"]["told"]["text"]) > 10
    assert widget.theme == "dark"


@pytest.mark.parametrize("name", MADE)
def test_where_there_are_no_pictures_it_is_its_steps_as_text(name):
    widget = MADE[name]()
    bundle = widget._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["text/plain"].splitlines()[0] == widget.scene.head
    assert widget.scene.steps[0].text in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data


@pytest.mark.parametrize("name", MADE)
def test_a_page_holds_all_that_it_needs(name):
    page = MADE[name]().page()
    assert 1_000_000 < len(page) < 2_500_000
    assert "http" not in page.split("<script>")[0].replace("http-equiv", "")


@pytest.mark.parametrize("name", MADE)
def test_run_as_a_program_it_writes_a_page_of_its_sample(name):
    command = [sys.executable, "-m", f"labkit.widgets.{name}"]
    page = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    assert "data-scrub" in page.read_text()
    page.unlink()


def test_nothing_to_show_is_one_sentence(traces):
    for empty in (zones.Zones({}), walk.Walk(()), pins.Pins(traces.EMPTY)):
        assert empty.item["item"] == {}
        assert "data-scrub" not in empty.item["html"]


def test_markup_in_a_trace_is_escaped(traces):
    page = pins.Pins(traces.HOSTILE).page()
    assert "<img src=x" not in page


def test_the_markup_of_a_scene_is_escaped():
    evil = Scene("<b>", "</script>", '"><i>', [Step("<u>", "", "<img>")], {}, {}, [("a", "<s>")], {"m": "words"})
    assert not {"<b>", "<i>", "<s>", "</script>"} & {
        tag for tag in ("<b>", "<i>", "<s>", "</script>") if tag in item(evil)["html"]
    }
    assert "<img>" not in standalone(evil, "zones.js")


def test_the_style_sheet_names_only_colours_that_there_are():
    css = (Path(zones.__file__).parent / "scene.css").read_text()
    assert set(re.findall(r"var\(--([a-z0-9_]+)[,)]", css)) - {"key", "edge"} <= LIGHT.keys()


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_numbers_can_be_read_on_every_colour_of_an_amount(palette):
    inks = [palette["dot"] if step < 5 else palette["on1"] for step in range(10)]
    assert min(contrast(ink, colour) for ink, colour in zip(inks, zones.CIVIDIS, strict=True)) >= 4.5
