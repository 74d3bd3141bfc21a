"""Knobs as options: told once, and whatever somebody types is a scenario or one sentence."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from labkit.cli.knobs import _SWITCHES, _TEXTS, scenario_of
from labkit.cli.main import app
from labkit.errors import BadInput, LabkitError
from labkit.machine import Machine
from labkit.scenario import Scenario

RUN = CliRunner()


def test_every_field_of_a_scenario_is_an_option_and_the_other_way_round():
    assert {*_TEXTS, *_SWITCHES} == set(Scenario.model_fields) - {"version", "limits", "profile", "faults"}


@pytest.mark.parametrize("command", ["run", "compare", "export"])
@pytest.mark.parametrize("columns", [80, 120])
def test_the_help_fits_a_terminal_and_tells_every_option_in_full(command, columns):
    done = RUN.invoke(app, [command, "--help"], env={"COLUMNS": str(columns), "TERM": "dumb"})
    assert done.exit_code == 0
    assert max(len(line) for line in done.stdout.splitlines()) <= columns
    assert "…" not in done.stdout
    assert "Example: labkit" in done.stdout
    without = {"compare": {"system"}, "export": {"count", "hazard", "at", "check"}, "run": set()}[command]
    for name in {*_TEXTS, *_SWITCHES, "limit", "profile", "scenario"} - without:
        assert f"--{name.replace('_', '-')}" in done.stdout
    assert ("--fault " in done.stdout) == (command != "export")
    for name in without - {"at"}:  # of an export it is the cursor
        assert f"--{name} " not in done.stdout


def test_limits_are_numbers_in_any_base_and_the_last_one_counts():
    made = scenario_of(None, {"limits": ["max_segments=0x10", "nomerges = 2", "max_segments=8"]}, {})
    assert made.limits == {"max_segments": 8, "nomerges": 2}


def test_options_go_on_top_of_a_file(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('system = "page"\nsize = "8 KiB"\n[limits]\nnomerges = 1\nmax_segments = 4\n')
    made = scenario_of(path, {"limits": ["nomerges=2"]}, {"size": "16 KiB", "kernel": None})
    assert (made.system, made.size, made.kernel, made.limits) == (
        "page",
        16384,
        "7.3",
        {"nomerges": 2, "max_segments": 4},
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nomerges", "limits: 'nomerges' has no value, such as in max_segments=4 (-EINVAL)"),
        ("nomerges=many", "limits: 'nomerges=many' is not a name and a number, such as max_segments=4 (-EINVAL)"),
        ("=", "limits: '=' is not a name and a number, such as max_segments=4 (-EINVAL)"),
        ("x" * 999, f"limits: {'x' * 60!r} has no value, such as in max_segments=4 (-EINVAL)"),
    ],
)
def test_a_limit_that_is_none_is_one_sentence(text, sentence):
    with pytest.raises(BadInput) as caught:
        scenario_of(None, {"limits": [text]}, {})
    assert str(caught.value) == sentence


def test_a_number_of_the_device_that_is_none_is_told_with_one_that_is():
    with pytest.raises(BadInput, match=r"^profile: 'dies=many' is not a name and a number, such as read_ns=20000 "):
        scenario_of(None, {"profile": ["dies=many"]}, {})


@pytest.mark.parametrize(
    ("text", "options", "backend", "iommu"),
    [
        ("dma = 'xen'", {"dma": "iommu"}, "iommu", "lazy"),
        ("dma = 'xen'", {"iommu": "strict"}, "iommu", "strict"),
        ("iommu = 'strict'", {"dma": "direct"}, "direct", "off"),
        ("iommu = 'strict'", {"dma": "iommu"}, "iommu", "strict"),
        ("dma = 'swiotlb'", {"iommu": "off"}, "swiotlb", "off"),
        ("dma = 'iommu'", {"iommu": "off"}, "direct", "off"),
    ],
)
def test_an_option_overrules_what_a_file_says_of_the_iommu(tmp_path, text, options, backend, iommu):
    (tmp_path / "run.toml").write_text(text)
    made = scenario_of(tmp_path / "run.toml", {}, options)
    assert (made.backend, made.iommu) == (backend, iommu)


def made_or_refused(make):
    """Return what `make` returns, or the LabkitError that it raises: bad input, and nothing else."""
    try:
        return make()
    except LabkitError as bad:
        return bad if bad.exit_code == 2 else None


WORDS = st.one_of(
    st.text(max_size=40),
    st.text(string.printable, max_size=20),
    st.integers(-(1 << 70), 1 << 70).map(str),
    st.floats().map(str),
    st.sampled_from(
        ["", "0", "-1", "nan", "inf", "-inf", "1e999", "0x10", "None", "true", "[]", "{}", "{'a': 1}", "ext4", "page",
         "phyr", "4KiB", "1 PiB", "9" * 5000, "\0", "\ud800", "../../etc/passwd", "[red]x[/red]", "RWF_NOWAIT|", "|"]
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*_TEXTS, *_SWITCHES]), WORDS, min_size=1, max_size=4))
def test_whatever_is_typed_is_a_scenario_or_one_sentence(options):
    made = made_or_refused(lambda: scenario_of(None, {}, options))
    if isinstance(made, LabkitError):
        assert str(made).endswith(" (-EINVAL)")
        assert len(str(made)) < 1000
    else:
        assert isinstance(made, Scenario)


LIMITS = st.dictionaries(
    st.one_of(
        st.sampled_from([
            "max_segments", "max_sectors_kb", "max_sectors", "chunk_sectors", "nomerges", "logical_block_size",
            "physical_block_size", "max_segment_size", "seg_boundary_mask", "virt_boundary_mask", "dma_alignment",
            "write_cache", "fua", "nr_requests", "io_opt", "max_hw_sectors", "atomic_write_unit_max", "stable_writes",
        ]),
        st.text(max_size=12),
    ),
    st.one_of(st.integers(-2, 8), st.integers(0, 20).map(lambda n: 1 << n), st.integers(-(1 << 40), 1 << 66)),
    min_size=1, max_size=3,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(LIMITS, st.sampled_from(["raw", "ext4"]), st.sampled_from(["page", "phyr"]))
def test_whatever_limits_are_asked_for_the_bytes_arrive_or_there_is_one_sentence(limits, fs, system):
    knobs = {"ram": "64 MiB", "size": "36 KiB", "skew": 512, "fs": fs, "system": system}
    made = made_or_refused(lambda: Machine(**knobs, limits=limits))
    if isinstance(made, LabkitError):
        assert "\n" not in str(made)
        return
    report = made.run()
    assert report["verified"] or report["error"]
    assert made.queue.in_flight == {}
    assert made.ledger.held == {}


@pytest.mark.parametrize(
    "args",
    [
        ["--size", "nan"], ["--limit", "a=b"], ["--limit", "max_segments=-1"], ["--flags", "x" * 81], ["--fs", "fat"],
        ["--kernel", "6.18.1"], ["--pieces", "7"], ["--scatter", "2"], ["--system", "[red]x"], ["--folio", "\x1b[31m"],
        ["--extents", "hole"], ["--sched", "cfq"], ["--api", "sendfile"], ["--completion", "magic"], ["--chunk", "-1"],
        ["--stack", "raid"], ["--dma", "magic"], ["--device-mask", "65"], ["--route", "moon"], ["--profile", "dies"],
        ["--profile", "dies=many"], ["--profile", "dies=0"], ["--profile", "read_ns=nan"], ["--profile", "\x1b[31m=1"],
        ["--fault", "timeout"], ["--fault", "@"], ["--fault", "gremlins@DeviceStart"], ["--fault", "timeout@Doomsday"],
        ["--sgl-threshold", "-1"], ["--device", "floppy"], ["--dma", "direct", "--iommu", "lazy"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_hostile_command_line_is_one_sentence_and_exit_code_2(args):
    done = RUN.invoke(app, ["run", *args])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("(-EINVAL)\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--fs", "ext4", "--extents", "mixed", "--api", "io_uring"],
        ["--fs", "xfs", "--buffered", "--completion", "folio_walk"],
        ["--system", "unified", "--kernel", "6.12", "--api", "preadv", "--pieces", "3", "--sched", "bfq"],
        ["--system", "page", "--stack", "stripe", "--limit", "max_segments=4", "--op", "write"],
    ],
    ids=" ".join,
)
def test_a_page_is_exported_of_a_run_with_any_knobs(args, tmp_path):
    out = tmp_path / "io.html"
    done = RUN.invoke(app, ["export", "-o", str(out), "--size", "32KiB", "--ram", "64MiB", *args])
    assert (done.exit_code, done.stderr) == (0, "")
    page = out.read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<title>") == 1
    assert "<script src=" not in page
    assert '<link rel="stylesheet"' not in page
