"""`labkit export` by the end of a file's name: what is written, what is said beforehand, and what is refused."""

import json
import shutil
import sys
from pathlib import Path
from xml.dom.minidom import parseString

import pytest
from typer.testing import CliRunner

from labkit.cli.export import FORMATS
from labkit.cli.main import app
from labkit.host.calls.chromium import NAMES
from labkit.trace.events import SysEnter
from labkit.trace.store import save
from labkit.trace.trace import Trace

RUN = CliRunner()
CAPTURES = Path(__file__).parents[2] / "data" / "captures"
SMALL = ("--size", "32KiB", "--ram", "64MiB", "--fragmentation", "0")
CHROMIUM = any(shutil.which(name) for name in NAMES)
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH")


def export(out, *args):
    return RUN.invoke(app, ["export", "-o", str(out), *args])


@pytest.mark.parametrize(
    ("suffix", "begins"),
    [
        (".html", "<!doctype html>"),
        (".json", '{"traceEvents":[{"ph":"M",'),
        (".blkparse", "  0,0    0        1 "),
        (".csv", "n,t,io,record,bio,"),
    ],
)
def test_the_end_of_the_name_says_what_is_written(tmp_path, suffix, begins):
    out = tmp_path / f"run{suffix}"
    done = export(out, *SMALL)
    assert (done.exit_code, done.output) == (0, "")
    assert out.read_text().startswith(begins)


@pytest.mark.parametrize("suffix", [".json", ".blkparse", ".csv"])
def test_a_kept_trace_gives_the_file_that_its_run_gives(tmp_path, suffix):
    kept = tmp_path / "kept.json.gz"
    assert RUN.invoke(app, ["run", *SMALL, "--save", str(kept), "--json"]).exit_code == 0
    assert export(tmp_path / f"a{suffix}", *SMALL).exit_code == 0
    assert export(tmp_path / f"b{suffix}", "--trace", str(kept)).exit_code == 0
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_a_capture_is_exported_as_what_it_becomes(tmp_path):
    out = tmp_path / "capture.json"
    assert export(out, "--trace", str(CAPTURES / "05-1m-random-4k.json")).exit_code == 0
    told = json.loads(out.read_text())
    assert told["otherData"]["clock"] == "measured"
    assert any(event["ph"] == "B" and event["name"].startswith("request") for event in told["traceEvents"])


def test_a_large_file_is_announced_before_it_is_made(tmp_path):
    kept, out = tmp_path / "long.json.gz", tmp_path / "long.csv"
    save(Trace(tuple(SysEnter(t, 0, "pread64", 3, 0, 512, 0) for t in range(250_000))), kept)
    done = export(out, "--trace", str(kept))
    assert done.exit_code == 0
    assert done.stderr == f"export: 250,000 records become about 35 MiB in {out}\n"
    assert 0.5 < out.stat().st_size / (35 << 20) < 2


@pytest.mark.parametrize(
    ("name", "args", "sentence"),
    [
        ("x.doc", (), "does not end in one of .html .json .blkparse .csv .parquet .png .svg (-EINVAL)"),
        ("x.csv", ("--at", "-1"), "export: at=-1 is before the start of the run (-EINVAL)"),
        ("none/x.csv", (), "cannot be written: No such file or directory (-ENOENT)"),
        ("x.json", ("--trace", "none.json"), "none.json: file cannot be read: No such file or directory (-ENOENT)"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(tmp_path, name, args, sentence):
    done = export(tmp_path / name, *SMALL, *args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(f"{sentence}\n")
    assert done.stderr.count("\n") == 1


def test_a_format_whose_package_is_missing_is_not_allowed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = export(tmp_path / "x.parquet", *SMALL)
    assert done.exit_code == 3
    assert done.stderr == "parquet: pyarrow is not installed: pip install pyarrow, or export .csv (-ENOPKG)\n"


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_without_a_browser_a_figure_is_not_allowed(tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = export(tmp_path / f"x{suffix}", *SMALL)
    assert done.exit_code == 3
    assert "is not installed: apt-get install chromium, or export .html" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_of_a_trace_without_records_there_is_no_figure(tmp_path, suffix):
    save(Trace(()), tmp_path / "empty.json")
    done = export(tmp_path / f"x{suffix}", "--trace", str(tmp_path / "empty.json"))
    assert (done.exit_code, done.stderr) == (2, "export: a trace without records has nothing to draw (-ENODATA)\n")


@pytest.mark.browser
@needs_chromium
def test_a_png_is_the_main_view_and_a_svg_its_pictures_in_vectors(tmp_path):
    png, svg = tmp_path / "x.png", tmp_path / "x.svg"
    assert export(png, *SMALL).exit_code == export(svg, *SMALL).exit_code == 0
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) == (1600, 1040)
    root = parseString(svg.read_text()).documentElement  # noqa: S318 - a file of labkit's own
    assert root.tagName == "svg"
    assert "Physical memory" in svg.read_text()
    assert len(root.getElementsByTagName("path")) > 50


@pytest.mark.browser
@needs_chromium
def test_the_cursor_moves_the_figure(tmp_path):
    texts = []
    for at in (0, 10**9):
        assert export(tmp_path / "x.svg", *SMALL, "--at", str(at)).exit_code == 0
        root = parseString((tmp_path / "x.svg").read_text()).documentElement  # noqa: S318 - the same
        texts.append([node.firstChild.data for node in root.getElementsByTagName("text") if node.firstChild])
    assert texts[0] != texts[1]


def test_every_format_is_named_in_the_help():
    text = RUN.invoke(app, ["export", "--help"], env={"COLUMNS": "120", "TERM": "dumb"}).stdout
    assert [suffix for suffix in FORMATS if suffix not in text] == []
