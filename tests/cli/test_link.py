"""`labkit link` prints a line, `labkit open` runs what a line says."""

import json

import pytest
from typer.testing import CliRunner

from labkit.cli.main import app
from labkit.scenario import Scenario
from labkit.scenario.link import unpack

RUN = CliRunner()
LOOP = "which no link may start: labkit run --device loop does it"


def invoke(*args):
    return RUN.invoke(app, [str(arg) for arg in args])


def test_a_link_carries_the_options_the_cursor_and_the_selection():
    done = invoke("link", "--size", "64KiB", "--hazard", "truncate", "--t", 90000, "--select", 3, "--select", 1)
    assert (done.exit_code, done.stderr) == (0, "")
    link = unpack(done.stdout)
    assert (link.t, link.selection) == (90000, (1, 3))
    assert Scenario.of(link.values) == Scenario.of({"size": "64KiB", "hazard": "truncate"})


def test_open_tells_what_run_tells():
    knobs = ("--size", "64KiB", "--ram", "64MiB", "--seed", "7")
    opened = invoke("open", invoke("link", *knobs).stdout, "--json")
    assert opened.exit_code == 0
    assert json.loads(opened.stdout) == json.loads(invoke("run", *knobs, "--json").stdout)


def test_open_tells_a_story_to_a_person():
    done = invoke("open", Scenario.of({"size": "4 KiB", "ram": "64 MiB"}).link())
    assert done.exit_code == 0
    assert "every byte" in done.stdout


def test_open_writes_the_page_at_the_cursor(tmp_path):
    link = Scenario.of({"size": "64 KiB", "ram": "64 MiB", "fragmentation": 0}).link
    posters = []
    for t in (0, 1 << 40):
        out = tmp_path / "x.html"
        assert invoke("open", link(t), "-o", out).exit_code == 0
        text = out.read_text()
        begin = text.index('<script type="application/json" id="picture">') + 45
        data = json.loads(text[begin : text.index("</script>", begin)])["data"]
        posters.append((data["poster"], len(data["t"])))
    assert posters[0][0] < 5
    assert posters[1][0] == posters[1][1] - 1


@pytest.mark.parametrize("suffix", [".json", ".blkparse", ".csv"])
def test_open_exports_as_export_does(tmp_path, suffix):
    knobs = ("--size", "64KiB", "--ram", "64MiB")
    assert invoke("open", invoke("link", *knobs).stdout, "-o", tmp_path / f"a{suffix}").exit_code == 0
    assert invoke("export", *knobs, "-o", tmp_path / f"b{suffix}").exit_code == 0
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("values", "code", "sentence"),
    [
        (
            {"device": "loop"},
            3,
            f"link: device=loop is real IO on this machine, {LOOP} (-EPERM)",
        ),
        (
            {"size": "1 GiB", "count": 2, "ram": "16 GiB"},
            2,
            "link: size x count = 2 GiB is more than the 1 GiB that a link may ask for: run it by its options (-E2BIG)",
        ),
    ],
)
def test_what_a_strangers_line_may_not_start_is_refused(values, code, sentence):
    done = invoke("open", Scenario.of(values).link())
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", sentence + "\n")


@pytest.mark.parametrize("text", ["hello", "labkit:2:eNqrrgUAAXUA-Q", "labkit:1:eNqr", "", "labkit:1:\x1b[2J"])
def test_what_is_no_link_is_one_sentence_and_exit_code_2(text):
    done = invoke("open", text)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("link: ")
    assert done.stderr.strip().isprintable()


def test_markup_in_a_link_is_text_in_the_page(tmp_path):
    out = tmp_path / "x.html"
    done = invoke(
        "open", Scenario.of({"flags": "</script><img src=x onerror=alert(1)>", "ram": "64 MiB"}).link(), "-o", out
    )
    assert done.exit_code == 0
    assert "img src=x" in out.read_text()
    assert "<img src=x" not in out.read_text()


def test_an_unwritable_name_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("labkit.cli.export.Machine", None)
    done = invoke("open", Scenario().link(), "-o", tmp_path / "x.doc")
    assert done.exit_code == 2
    assert "does not end in one of" in done.stderr
