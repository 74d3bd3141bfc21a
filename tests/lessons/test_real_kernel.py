import errno
from itertools import islice

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.lessons import real_kernel
from labkit.lessons.real_kernel import (
    BIOS,
    CAPTURES,
    FIXED,
    LESSONS,
    LOWERED,
    REQUESTS,
    SPLITS,
    VVAR,
    allowed,
    bio_rows,
    captured_or_recorded,
    compared,
    endless,
    folios,
    imagined,
    residuals,
    said,
)
from labkit.witness.capture import Capture
from labkit.witness.demos import DEMOS
from labkit.witness.predict import predict


def capture(name):
    return Capture.load(CAPTURES / f"{name}.json")


@pytest.fixture
def refused(monkeypatch):
    """A machine that does not let its kernel be watched."""

    def no():
        raise NotAllowed("tracefs", "/sys/kernel/tracing", "needs root: run as root", errno.EPERM)

    monkeypatch.setattr(real_kernel, "_source", no)


@pytest.mark.usefixtures("refused")
def test_where_nothing_may_be_watched_a_recording_plays_and_says_why(capsys):
    found = captured_or_recorded("scattered")
    assert found.id == capture("05-1m-random-4k").id
    assert capsys.readouterr().out == (
        "tracefs: /sys/kernel/tracing needs root: run as root (-EPERM). "
        "Shown instead: a recording of 2026-11-22, Linux 6.18.44.\n"
    )
    assert allowed().startswith("No: tracefs: /sys/kernel/tracing needs root: run as root (-EPERM).")


def test_pages_that_will_not_stand_still_are_no_end_of_the_lesson(monkeypatch, capsys):
    def moving():
        raise SyscallError("capture", "thp", "has pages that move, 5 times in a row", errno.EAGAIN)

    monkeypatch.setattr(real_kernel, "_source", moving)
    assert captured_or_recorded("thp").id == capture("07-1m-thp").id
    assert "pages that move" in capsys.readouterr().out


def test_a_program_error_is_not_taken_for_a_refusal(monkeypatch):
    def broken():
        raise ValueError("a bug")

    monkeypatch.setattr(real_kernel, "_source", broken)
    with pytest.raises(ValueError, match="a bug"):
        captured_or_recorded("thp")


@pytest.mark.usefixtures("refused")
def test_every_io_of_the_notebook_has_a_recording_of_its_size(capsys):
    for name, (asked, _) in LESSONS.items():
        found = captured_or_recorded(name)
        assert sum(n for io in found.io for _, n in io.iov) == asked.nbytes
        assert compared(found) == "exact in result, bios, splits, requests, events"
    assert capsys.readouterr().out.count("Shown instead") == len(LESSONS) == 4


def test_the_answers_are_those_that_the_kernel_gave():
    assert BIOS.answer(capture("05-1m-random-4k")) == 1
    assert SPLITS.answer(capture("05-1m-random-4k")) == 1
    assert REQUESTS.answer(capture("07-1m-thp")) == 1
    assert LOWERED.answer(capture("33-max64k-nomerges0")) == 96
    assert VVAR.answer(DEMOS["memory-kinds"].replay()) == "EFAULT"
    assert FIXED.answer(DEMOS["registered-pins"].replay()) == 0


def test_what_a_demonstration_says_is_works_or_an_errno():
    kinds = DEMOS["memory-kinds"].replay()
    assert [said(kinds, words) for words in ("memfd", "secretmem")] == ["works", "EFAULT"]


def test_where_the_kernel_did_otherwise_the_first_difference_is_told():
    found = capture("05-1m-random-4k")
    other = found.model_copy(update={"limits": {**found.limits, "max_segments": 64}})
    assert compared(other).startswith(f"{found.id}: splits[0]: predicted ")


@pytest.mark.usefixtures("refused")
def test_without_root_every_recorded_io_is_a_row_of_the_residual(capsys):
    rows = residuals(50, seed=1)
    assert len(rows) == len(list(CAPTURES.glob("*.json"))) > 20
    assert all(set(row) >= {"id", "op", "size", "buffer", "parts", "first", "limits"} for row in rows)
    assert [row["id"] for row in rows if not all(row["parts"].values()) or row["first"]] == []
    assert {row["buffer"] for row in rows} == {"4KiB", "2MiB"}
    assert "Shown instead" in capsys.readouterr().out


def test_a_row_tells_which_part_differs():
    found = capture("05-1m-random-4k")
    other = found.model_copy(update={"result": [4096]})
    row = real_kernel._row(other)
    assert [name for name, exact in row["parts"].items() if not exact] == ["result"]
    assert row["first"] == f"{found.id}: result[0]: predicted 1048576, recorded 4096"


def test_the_folios_of_a_buffer_are_named_as_its_kind():
    names = {name: folios(capture(name)) for name in ("05-1m-random-4k", "07-1m-thp", "30-vvar-write")}
    assert list(names.values()) == ["4KiB", "2MiB", "4KiB"]


def test_bios_that_nobody_saw_are_predicted_ones():
    found = capture("07-1m-thp")
    unseen = found.model_copy(update={"bios": []})
    assert bio_rows(found) == bio_rows(unseen) == [[2048, [[11060379648, 1048576]]]]


def test_imagined_runs_do_not_touch_each_other():
    told = predict(imagined([3, 1, 5]))
    assert [n for _, n in told.bios[0][1]] == [3 * 4096, 4096, 5 * 4096]
    assert told.result == [9 * 4096]


def test_limits_of_what_is_imagined_are_obeyed():
    assert predict(imagined([16] * 4, max_sectors_kb=64)).requests == [[0, 128], [128, 128], [256, 128], [384, 128]]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_has_one_series_and_every_answer_is_a_number(seed):
    one = list(islice(endless(seed), 15))
    assert [(q.text, q.answer) for q in one] == [(q.text, q.answer) for q in islice(endless(seed), 15)]
    assert all(isinstance(q.answer, int) for q in one)
    assert len({q.text for q in one}) > 10


@pytest.mark.host
def test_as_root_the_kernel_itself_is_asked_and_the_lab_is_right(capsys):
    found = captured_or_recorded("scattered")
    out = capsys.readouterr().out
    if "Shown instead" in out:
        pytest.skip(out.strip())
    assert out.startswith("Captured just now: Linux ")
    assert compared(found) == "exact in result, bios, splits, requests, events"
    assert (BIOS.answer(found), SPLITS.answer(found)) == (1, 1)
    assert allowed().startswith("Yes: Linux ")


@pytest.mark.host
def test_as_root_random_ios_are_rows_of_the_residual(capsys):
    rows = residuals(6, seed=3)
    out = capsys.readouterr().out
    if "Shown instead" in out:
        pytest.skip(out.strip())
    assert len(rows) == 6
    assert [row["first"] for row in rows if row["first"]] == []
