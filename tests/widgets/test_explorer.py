import subprocess
import sys
from pathlib import Path

import pytest

import labkit.widgets
from labkit.trace.store import save
from labkit.widgets.explorer import Explorer

STEMS = sorted(path.stem for path in Path(labkit.widgets.__file__).parent.glob("*.py") if path.stem != "__init__")


@pytest.fixture
def explorer(traces):
    return Explorer(traces.SMALL, theme="dark")


def test_it_holds_the_picture_and_the_theme(explorer):
    assert explorer.item["data"]["text"][-1] == "pread64 returns 12,288 bytes."
    assert explorer.theme == "dark"
    assert (explorer.t, explorer.selection) == (0, [])


def test_another_trace_takes_the_same_place(explorer, traces):
    explorer.selection = [1]
    explorer.show(traces.EMPTY)
    assert explorer.trace is traces.EMPTY
    assert explorer.item["item"] is None
    assert explorer.selection == []


def test_bokehjs_comes_as_one_binary_message_when_it_is_asked_for(explorer, monkeypatch):
    sent = []
    monkeypatch.setattr(explorer, "send", lambda content, buffers: sent.append((content, buffers)))
    explorer._answer(explorer, {"type": "other"}, [])
    explorer._answer(explorer, {"type": "bokeh"}, [])
    ((content, (code,)),) = sent
    assert content == {"type": "bokeh"}
    assert 1_000_000 < len(code) < 1_500_000


def test_where_there_are_no_pictures_it_is_its_headline(explorer):
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["text/plain"].startswith("One 12 KiB direct read, two physical ranges\n")
    assert "application/vnd.jupyter.widget-view+json" in data


@pytest.mark.parametrize("stem", STEMS)
def test_no_widget_loads_the_engine(stem):
    code = f"import sys, labkit.widgets.{stem}\nprint(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "simpy" not in loaded
    assert not [name for name in loaded if name.startswith(("labkit.kernel", "labkit.hardware", "labkit.machine"))]


def test_run_as_a_program_it_writes_a_page(traces, tmp_path):
    save(traces.SMALL, tmp_path / "run.json.gz")
    command = [sys.executable, "-m", "labkit.widgets.explorer", str(tmp_path / "run.json.gz")]
    page = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    assert "One 12 KiB direct read" in page.read_text()
    page.unlink()
