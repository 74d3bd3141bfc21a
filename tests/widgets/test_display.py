import subprocess
import sys

import pytest
from IPython.core.formatters import DisplayFormatter

from labkit.machine import Machine
from labkit.scatter.phyr import Phyr, PhyrList
from labkit.trace.trace import Trace
from labkit.widgets import display

PHYRS = PhyrList((Phyr(0x7000, 4096), Phyr(0x9000, 512)))


class Shell:
    """As much of IPython as an extension sees."""

    def __init__(self) -> None:
        self.display_formatter = DisplayFormatter()

    def show(self, thing):
        return self.display_formatter.format(thing)[0]


@pytest.fixture
def shell():
    found = Shell()
    display.load_ipython_extension(found)
    return found


def test_a_phyr_list_shows_itself_as_text_and_html(shell):
    shown = shell.show(PHYRS)
    assert set(shown) == {"text/plain", "text/html"}
    assert shown["text/plain"].startswith("Two phyrs, 4.5 KiB\n[proposed (Wilcox, 2022 and 2024)]")


def test_phyrs_in_a_list_are_a_line_each(shell):
    assert shell.show([PHYRS[1], 3])["text/plain"] == "[Phyr(0x9000, 512), 3]"


def test_a_trace_shows_the_explorer_and_beside_it_text_and_html(shell):
    machine = Machine(size="16 KiB", seed=7)
    machine.run()
    shown = shell.show(machine.trace)
    assert set(shown) == {"application/vnd.jupyter.widget-view+json", "text/plain", "text/html"}
    assert shown["text/plain"].startswith("One 16 KiB direct read")


def test_a_trace_of_too_many_records_and_one_of_none_show_their_sheet(shell):
    machine = Machine(size="4 KiB", seed=7)
    machine.run()
    long = Trace(machine.trace.records[:1] * (display.MOST_RECORDS + 1))
    for trace in (long, Trace(())):
        assert set(shell.show(trace)) == {"text/plain", "text/html"}


def test_what_was_loaded_is_taken_back_and_loading_twice_is_loading_once(shell):
    display.load_ipython_extension(shell)
    display.unload_ipython_extension(shell)
    assert set(shell.show(PHYRS)) == {"text/plain"}
    display.unload_ipython_extension(shell)


def test_loading_the_extension_loads_neither_bokeh_nor_the_engine():
    code = (
        "import sys, IPython.core.formatters as f, labkit.widgets.display as d\n"
        "shell = type('Shell', (), {'display_formatter': f.DisplayFormatter()})()\n"
        "d.load_ipython_extension(shell)\nprint(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "labkit.views.shown.registry" in loaded
    assert not {"bokeh", "ipywidgets", "anywidget", "simpy", "labkit.machine"} & set(loaded)
