import json
import os
import tempfile

import pytest

from labkit.cli import doctor as module
from labkit.cli.doctor import doctor
from labkit.host.probe import Finding, Report

REPORT = Report(
    (
        Finding("root", True, "uid 0"),
        Finding("thp", False, "[never]", "THP is [off]", "echo madvise"),
    )
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def leftover(place):
    path = place / f"labkit-{os.geteuid()}" / "labkit-loop-999999-0123456789abcdef.img"
    path.parent.mkdir(mode=0o700)
    path.touch()
    return path


def test_the_table_has_a_sign_beside_the_colour_and_the_remedy_of_a_no(monkeypatch, capsys):
    monkeypatch.setattr(module, "probe", lambda: REPORT)
    assert doctor(json=False) == 0
    out = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if "│" in line}
    assert "✓ yes" in rows["root"]
    assert "uid 0" in rows["root"]
    assert "✗ no" in rows["thp"]
    assert "[never]" in rows["thp"]
    assert "THP is [off] – echo madvise" in rows["thp"]


def test_the_json_is_one_object_with_each_finding(monkeypatch, capsys):
    monkeypatch.setattr(module, "probe", lambda: REPORT)
    assert doctor(json=True) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": {"root": True, "thp": False},
        "findings": [
            {"name": "root", "ok": True, "value": "uid 0", "reason": "", "remedy": ""},
            {"name": "thp", "ok": False, "value": "[never]", "reason": "THP is [off]", "remedy": "echo madvise"},
        ],
    }


def test_this_machine_gives_a_report_in_both_forms(capsys):
    assert doctor(json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["ok"]) == [finding["name"] for finding in report["findings"]]
    assert {"root", "loop", "pagemap", "io_uring", "bokeh"} <= set(report["ok"])
    assert doctor(json=False) == 0
    assert "io_uring" in capsys.readouterr().out


def test_a_leftover_is_removed_and_said(leftover, capsys):
    doctor(json=False)
    assert f"left by a killed run: {leftover}\n" in capsys.readouterr().out
    assert not leftover.exists()
    doctor(json=False)
    assert str(leftover) not in capsys.readouterr().out


def test_with_json_the_leftover_is_said_on_stderr(leftover, capsys):
    doctor(json=True)
    out, err = capsys.readouterr()
    assert err == f"left by a killed run: {leftover}\n"
    assert set(json.loads(out)) == {"ok", "findings"}
    assert not leftover.exists()
