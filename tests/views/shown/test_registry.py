"""Every public object has a sheet, in text and in HTML, and none of it loads a drawing library or the engine."""

import importlib
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from labkit.host.probe import Finding, Report
from labkit.machine import Machine
from labkit.machine.workload.load import Load
from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.phyr import Phyr, PhyrList, phyrs_of
from labkit.scenario import Scenario
from labkit.trace.blame import who_holds
from labkit.trace.snapshot import DmaState
from labkit.trace.trace import Trace
from labkit.views.shown.registry import SHEETS, sheet_of
from labkit.witness.capture import Capture
from labkit.witness.demos import DEMOS
from labkit.witness.outcome import Fit, Outcome, Rates
from labkit.witness.predict import predict
from labkit.witness.structs import StructSize

CAPTURES = Path(__file__).parents[3] / "data" / "captures"
HOSTILE = "<script>alert(1)</script>\x1b[31m\n\"'&"


class Tags(HTMLParser):
    """The tags of a text of HTML, and what stands between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag, _attrs):
        self.names.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def things() -> dict[str, object]:
    machine = Machine(device="nvme", seed=7)
    task = machine.task()
    buf = task.mmap("64 KiB")
    task.pread(task.open("/dev/nvme0n1", "O_RDONLY|O_DIRECT"), buf, "64 KiB")
    trace = machine.trace
    now = trace.state_at(trace.end // 2)
    capture = Capture.load(CAPTURES / "07-1m-thp.json")
    found = Finding("loop", False, "no node", "there is no /dev/loop-control", "modprobe loop")
    outcome = Outcome("a", "r", 4096, "4KiB", "pread", {}, {"bios": False}, True, [4096], 1, ["a: bios: one more"])
    every = (
        machine, task, task.buffer(buf), machine.scenario, trace, trace.meters(), Load(), now, now.folios[0],
        now.pins[0], DmaState(((0xF000, 4096),), ((0x7000, 4096),), live=False), Report((found,)), found, capture,
        predict(capture), outcome, Rates.of([outcome]), Fit("6.18", 9, 10), StructSize("bio_vec", 16, 16),
        next(iter(DEMOS.values())).replay(), Phyr(0x7000, 4096), PhyrList((Phyr(0x7000, 4096), Phyr(0x9000, 512))),
        phyrs_of(np.arange(1000) * 8192, np.full(1000, 4096)),
        who_holds(trace, now.pins[0].ranges[0][0] >> 12, now.t)[0],
    )  # fmt: skip
    return {f"{type(each).__module__}.{type(each).__qualname__}": each for each in every}


THINGS = things()


def test_every_class_that_has_a_sheet_is_there_and_is_tried_here():
    assert set(THINGS) == set(SHEETS)
    for name in SHEETS:
        module, _, kind = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), kind), type)


@pytest.mark.parametrize("name", sorted(SHEETS))
def test_a_sheet_says_the_same_in_text_and_in_html_that_is_well_formed(name):
    sheet = sheet_of(THINGS[name])
    assert sheet.title
    assert str(sheet).splitlines()[0] == sheet.title
    assert sheet.bundle == {"text/plain": str(sheet), "text/html": sheet.html}
    found = Tags(sheet.html)
    assert found.open == []
    assert found.names <= {
        "div", "style", "p", "span", "ol", "li", "small", "dl", "dt", "dd", "i", "table", "caption", "thead", "tbody",
        "tr", "th", "td",
    }  # fmt: skip
    assert all(len(table.rows) <= 40 for table in sheet.tables)


def test_a_machine_shows_the_way_of_its_bytes_and_whose_ideas_it_is_made_of():
    sheet = sheet_of(THINGS["labkit.machine.machine.Machine"])
    assert [name for name, _ in sheet.way] == ["syscall", "dio", "fs", "block", "driver", "dma", "nvme0n1"]
    assert sheet.tags[:3] == ("simulated", "kernel 7.3", "proposed (Wilcox, 2022 and 2024)")


def test_a_buffer_shows_what_is_present_and_what_is_not():
    task = Machine(seed=7).task()
    buf = task.mmap("2 MiB", folio="2 MiB")
    assert ("present", "0 B in no physical ranges") in sheet_of(task.buffer(buf)).facts
    task.store(buf, b"x")
    assert ("present", "2 MiB in one physical range") in sheet_of(task.buffer(buf)).facts
    lines = str(sheet_of(task)).splitlines()
    assert lines[0] == "Task 0: one mapping, 2 MiB"
    assert lines[-1].endswith("anon 2 MiB    2 MiB")


def test_a_phyr_of_another_device_says_whose_it_is_and_looks_otherwise():
    sheet = sheet_of(PhyrList((Phyr(0x7000, 4096), Phyr(0x9000, 512, MemoryClass("mmio", "gpu0")))))
    assert [row[3] for row in sheet.tables[0].rows] == ["ram", "mmio of gpu0"]
    assert [piece.look for piece in sheet.strip.pieces] == ["ram", "peer"]


def test_of_a_long_list_the_middle_is_left_out_and_said():
    sheet = sheet_of(THINGS["labkit.scatter.phyr.PhyrArray"])
    assert sheet.title == "1,000 phyrs, 3.9 MiB"
    assert "… 960 more between these" in str(sheet)
    assert "… 960 more between these" in sheet.html
    assert len(sheet.strip.pieces) <= 128


def test_an_empty_trace_says_so():
    assert str(sheet_of(Trace(()))).startswith("Nothing happened yet")


def test_what_has_no_sheet_gets_none():
    assert sheet_of(3) is None
    assert sheet_of([Phyr(0, 1)]) is None


@pytest.mark.parametrize("name", ["capture", "finding", "buffer"])
def test_a_hostile_name_is_escaped_in_html_and_spelled_out_in_text(name):
    task = Machine(seed=7).task()
    thing = {
        "capture": Capture.load(CAPTURES / "07-1m-thp.json").model_copy(update={"id": HOSTILE, "kernel": HOSTILE}),
        "finding": Report((Finding(HOSTILE, False, HOSTILE, HOSTILE, HOSTILE),)),
        "buffer": task.buffer(task.mmap("4 KiB"))._replace(name=HOSTILE),
    }[name]
    sheet = sheet_of(thing)
    assert "<script" not in sheet.html
    assert "&lt;script&gt;" in sheet.html
    assert "\x1b" not in sheet.html + str(sheet)
    assert "\\x1b[31m\\n" in str(sheet)


def test_a_scenario_tells_first_what_was_asked_for():
    sheet = sheet_of(Scenario(size="64 KiB", seed=5))
    assert sheet.facts == (("size", "64 KiB"), ("seed", "5"))


def test_sheets_load_neither_the_engine_nor_a_drawing_library():
    code = "import sys, labkit.views.shown.registry\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "labkit.views.shown.registry" in loaded
    assert not {"simpy", "bokeh", "ipywidgets", "anywidget", "IPython"} & set(loaded)
    assert not [name for name in loaded if name.startswith(("labkit.kernel", "labkit.hardware", "labkit.machine"))]
