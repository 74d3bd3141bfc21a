"""`labkit run --like`: both sides as text and as JSON, the exit codes, and the trace that is kept."""

import json
from pathlib import Path

import pytest

from labkit.cli.like import run_like
from labkit.errors import BadInput
from labkit.scenario import Scenario
from labkit.trace.store import load

CAPTURES = Path(__file__).parents[2] / "data" / "captures"


def ask(name, **knobs):
    save = knobs.pop("save", None)
    as_json = knobs.pop("json", False)
    path = name if isinstance(name, Path) else CAPTURES / name
    return run_like(path, Scenario.of(knobs), save=save, json=as_json)


def test_both_sides_are_shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert ask("24-iov-adjacent-merge.json") == 0
    out = capsys.readouterr().out
    words = [line.split() for line in out.splitlines()]
    assert words[0][1:] == ["kernel", "6.18.44-fc-v657", "simulated", "model", "(page)"]
    assert any(line.count("block_bio_queue 0+5120") == 2 and " = " in line for line in out.splitlines())
    assert ["requests", "2", "2", "0"] in words
    assert ["pins", "640", "640", "0"] in words
    assert out.splitlines()[-1].startswith("✓ 2621440: every byte compared, every count as it was recorded; ")


def test_a_long_story_is_cut_in_the_middle(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert ask("33-max64k-nomerges0.json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("rows like these" in line for line in lines)
    assert len(lines) < 60 + 25


def test_JSON_has_every_row_and_every_count(capsys):
    assert ask("33-max64k-nomerges0.json", json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["capture"], told["result"], told["recorded"]) == ("33-max64k-nomerges0", [6291456], [6291456])
    assert (told["verified"], told["error"], told["violations"]) == (True, None, [])
    assert told["counts"]["splits"] == [95, 95, 0]
    assert sum(row[4] == "same" and row[1].startswith("block_split") for row in told["rows"]) == 95
    assert told["duration_ns"] == 3941742
    assert told["scenario"]["limits"] == {}


def test_what_was_not_asked_for_is_the_captures(capsys):
    assert ask("01-one-page-read.json", json=True, system="phyr") == 0
    told = json.loads(capsys.readouterr().out)["scenario"]
    assert (told["system"], told["kernel"], told["device"], told["size"]) == ("phyr", "6.18", "delay", 4096)


def test_a_failure_that_was_captured_is_no_failure_here(capsys):
    assert ask("03-8k-at-256-einval.json") == 0
    assert "✓ -EINVAL (block: vector 0x279f53100+3840 is not a multiple of 512" in capsys.readouterr().out


def test_the_trace_is_kept(tmp_path, capsys):
    path = tmp_path / "like.json.gz"
    assert ask("07-1m-thp.json", save=path) == 0
    told = {"capture": "07-1m-thp", "kernel": "6.18.44-fc-v657", "date": "2026-11-22T15:50:15Z"}
    assert load(path).meta["like"] == told
    assert "✓" in capsys.readouterr().out


def test_a_trace_that_cannot_be_kept_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="cannot be written"):
        ask("07-1m-thp.json", save=tmp_path / "nowhere" / "like.json")


def test_a_size_is_refused():
    with pytest.raises(BadInput, match=r"^like: size is the capture's to say"):
        ask("07-1m-thp.json", size=4096)


def test_a_file_that_is_no_capture_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{}")
    with pytest.raises(BadInput, match="is of format 'nothing'"):
        ask(path)
