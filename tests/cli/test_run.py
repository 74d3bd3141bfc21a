"""The console script as a user calls it: sentences, exit codes, JSON, files, and real devices."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.host.calls import loop_ioctl
from labkit.scenario import KINDS
from labkit.trace.store import load

LABKIT = shutil.which("labkit", path=str(Path(sys.executable).parent))
pytestmark = pytest.mark.skipif(LABKIT is None, reason="the labkit command is not installed beside this Python")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A temporary directory that is the default one of children, too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def labkit(*args):
    return subprocess.run([LABKIT, *args], capture_output=True, text=True, timeout=60, check=False)


def report_of(*args):
    done = labkit("run", *args, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def loops_over(place):
    return [path for _, path in loop_ioctl.attached() if path.startswith(f"{place}/")]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ("--system iov", "scenario: system='iov': input should be 'phyr', 'page', 'unified' or 'premapped' (-EINVAL)"),
        ("--dma magic", "scenario: dma='magic': input should be 'direct', 'iommu', 'swiotlb' or 'xen' (-EINVAL)"),
        ("--op trim", "scenario: op='trim': input should be 'read' or 'write' (-EINVAL)"),
        ("--size big", "scenario: size='big': could not parse value and unit from byte string (-EINVAL)"),
        ("--size 0", "scenario: size='0': input should be greater than or equal to 1 (-EINVAL)"),
        ("--folio 8KiB", f"scenario: folio='8KiB': is none of {', '.join(KINDS)} (-EINVAL)"),
        ("--fragmentation 2", "scenario: fragmentation='2': input should be less than or equal to 1 (-EINVAL)"),
        ("--iommu on", "scenario: iommu='on': input should be 'off', 'lazy' or 'strict' (-EINVAL)"),
        ("--ram 1MiB", "scenario: ram='1MiB': input should be greater than or equal to 67108864 (-EINVAL)"),
        ("--ram 64MiB --size 1GiB", "scenario: it cannot be: size=1 GiB does not fit into ram=64 MiB (-EINVAL)"),
        ("--seed -1", "scenario: seed='-1': input should be greater than or equal to 0 (-EINVAL)"),
        ("--buffer lost", "scenario: buffer='lost': input should be 'mapped', 'readonly' or 'unmapped' (-EINVAL)"),
        ("--skew 5000", "scenario: skew='5000': input should be less than 4096 (-EINVAL)"),
        ("--count 0", "scenario: count='0': input should be greater than or equal to 1 (-EINVAL)"),
        (
            "--offset 16GiB --fs ext4",
            "scenario: offset=17179869184 + size=1048576 ends beyond the device of 16 GiB (DIO-1) (-EINVAL)",
        ),
        (
            "--offset 16GiB --op write --fs xfs",
            "scenario: offset=17179869184 + size=1048576 ends beyond the device of 16 GiB (DIO-1) (-ENOSPC)",
        ),
        ("--scenario none.toml", "scenario: none.toml cannot be read: No such file or directory (-ENOENT)"),
        ("--save none/x.json", "file: none/x.json cannot be written: No such file or directory (-ENOENT)"),
        ("--colour red", "labkit: No such option: --colour; see labkit --help (-EINVAL)"),
        ("extra", "labkit: Got unexpected extra argument(s) (extra); see labkit --help (-EINVAL)"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_exit_code_2(args, sentence):
    done = labkit("run", *args.split())
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence + "\n")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ("--size 513", "pread64: count=513 is not a multiple of 512 (O_DIRECT, DIO-3) (-EINVAL)"),
        ("--offset 100", "pread64: pos=100 is not a multiple of 512 (O_DIRECT, DIO-3) (-EINVAL)"),
        ("--skew 3", "pread64: buf=0x7f0000000003 is not a multiple of 4 (O_DIRECT, ITER-5) (-EINVAL)"),
        (
            "--fs ext4 --size 5000 --limit dma_alignment=511",
            "pread64: length=5000 at buf=0x7f0000000000 is not a multiple of 512 (O_DIRECT, ITER-5) (-EINVAL)",
        ),
        ("--skew 3 --system page --kernel 6.18", "block: vector {skewed} is not a multiple of 4 (SPLIT-3) (-EINVAL)"),
        (
            "--skew 3 --system page",
            "gup: buf=0x7f0000000003 is not a multiple of 4 (O_DIRECT, ITER-5) (-EINVAL)",
        ),
        ("--buffer unmapped", "gup: addr=0x7e0000000000 is not mapped (MM-4) (-EFAULT)"),
        (
            "--buffer readonly --system page",
            "gup: addr=0x7f0000000000 lies in r-- memory: no right to write to it (-EFAULT)",
        ),
        ("--ram 64MiB --size 64MiB", "mm: a block of 4 KiB is not to be had in any zone (-ENOMEM)"),
    ],
)
def test_an_io_that_the_kernel_refuses_tells_its_story_and_is_exit_code_2(args, sentence):
    done = labkit("run", *args.split())
    begin, _, end = sentence.partition("{skewed}")
    assert done.returncode == 2
    assert done.stderr.startswith(begin)
    assert done.stderr.endswith(end + "\n")
    assert done.stderr.count("\n") == 1
    assert "system call" in done.stdout
    assert f"✗ {sentence[sentence.rindex('(') + 1 : -1]}" in done.stdout


def test_with_json_a_refusal_is_an_object_and_a_sentence():
    done = labkit("run", "--size", "0", "--json")
    sentence = "scenario: size='0': input should be greater than or equal to 1 (-EINVAL)"
    assert json.loads(done.stdout) == {"result": "-EINVAL", "verified": False, "error": sentence}
    assert (done.returncode, done.stderr) == (2, sentence + "\n")


def test_with_json_an_io_that_failed_is_a_whole_report():
    done = labkit("run", "--buffer", "unmapped", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["result"], report["verified"]) == (2, "-EFAULT", False)
    assert report["error"] == "gup: addr=0x7e0000000000 is not mapped (MM-4) (-EFAULT)"
    assert report["pins"] == {
        "taken": 0, "released": 0, "held": 0, "policy": None, "atomics": 0, "cache_lines": 0, "bytes": 0,
        "release_ns": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ("frobnicate", "labkit: No such command 'frobnicate'; see labkit --help (-EINVAL)"),
        ("run --size", "labkit: Option '--size' requires an argument; see labkit --help (-EINVAL)"),
        (
            "export -o page.pdf",
            "export: out='page.pdf' does not end in one of .html .json .blkparse .csv .parquet .png .svg (-EINVAL)",
        ),
        ("export", "labkit: Missing parameter: out; see labkit --help (-EINVAL)"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_one_sentence(args, sentence):
    done = labkit(*args.split())
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence + "\n")


def test_without_a_command_the_help_is_shown_and_nothing_is_complained_of():
    done = labkit()
    assert "Usage: labkit" in done.stdout
    assert done.stderr == ""


def test_a_report_is_complete():
    report = report_of("--size", "8KiB", "--op", "write", "--iommu", "strict", "--fragmentation", "1")
    assert set(report) == {
        "system", "device", "seed", "result", "phyrs", "bios", "requests", "dma", "pins", "meters", "sim_ns",
        "verified", "error", "scenario",
    }  # fmt: skip
    assert (report["system"], report["device"], report["seed"], report["result"]) == ("phyr", "nvme", 1, 8192)
    assert (report["verified"], report["error"]) == (True, None)
    assert report["bios"] == [{"sector": 0, "bytes": 8192, "segments": 2}]
    assert report["requests"] == [[0, 16]]
    assert [nbytes for _, nbytes in report["phyrs"]] == [4096, 4096]
    assert [nbytes for _, nbytes in report["dma"]] == [8192]
    assert report["pins"] == {
        "taken": 2, "released": 2, "held": 0, "policy": "range", "atomics": 4, "cache_lines": 1, "bytes": 32,
        "release_ns": 22,
    }  # fmt: skip
    assert report["meters"] == {
        "descriptor_bytes": 48, "pin_atomics": 4, "struct_pages_touched": 0, "conversions": 0, "dma_maps": 2,
        "iotlb_syncs": 1, "ioptes": 2, "iotlb_hits": 0, "iotlb_misses": 3, "bounced_bytes": 0,
    }  # fmt: skip
    assert report["sim_ns"] == 23411
    assert report["scenario"] == {
        "version": 1, "system": "phyr", "kernel": "7.3", "device": "nvme", "op": "write", "size": 8192, "offset": 0,
        "folio": "4KiB", "fragmentation": 1.0, "iommu": "strict", "ram": 4294967296, "seed": 1, "buffer": "mapped",
        "skew": 0, "count": 1, "fs": "raw", "extents": "mapped", "scatter": 0.0, "direct": True, "api": "pread",
        "pieces": 1, "flags": "", "sched": "none", "stack": "none", "limits": {}, "completion": "phys_to_folio",
        "pin": None, "chunk": 0, "hazard": None, "at": "DeviceStart", "check": False, "dma": None, "device_mask": 64,
        "route": "bridge", "acs": False, "sgl_threshold": 32768, "profile": {}, "faults": [],
    }  # fmt: skip


def test_both_systems_move_the_same_bytes_over_the_same_ranges_at_another_price():
    phyr, page = (report_of("--system", system, "--size", "256KiB", "--seed", "5") for system in ("phyr", "page"))
    assert phyr["result"] == page["result"] == 262144
    assert phyr["verified"] is page["verified"] is True
    assert phyr["phyrs"] == page["phyrs"]
    assert phyr["dma"] == page["dma"]
    assert phyr["meters"]["struct_pages_touched"] == 0
    assert page["meters"]["struct_pages_touched"] > 128
    assert phyr["meters"]["conversions"] == 0 < page["meters"]["conversions"]


def test_the_same_command_twice_is_the_same_report():
    assert report_of("--size", "64KiB", "--seed", "9") == report_of("--size", "64KiB", "--seed", "9")


def test_a_run_tells_a_story_and_a_verdict():
    done = labkit("run", "--size", "8KiB")
    assert (done.returncode, done.stderr) == (0, "")
    assert "✓ 8 KiB in " in done.stdout
    assert "(phyr, nvme, simulated): every byte compared" in done.stdout


@pytest.mark.parametrize("name", ["run.json", "run.json.gz"])
def test_a_trace_that_was_saved_can_be_loaded(place, name):
    report = report_of("--size", "64KiB", "--save", name)
    trace = load(place / name)
    assert trace.meta["scenario"] == report["scenario"]
    assert trace.meters().as_dict() == report["meters"]
    assert trace.state_at(trace.end).pins == ()


def test_a_failed_run_is_saved_too(place):
    assert labkit("run", "--buffer", "unmapped", "--save", "run.json").returncode == 2
    assert load(place / "run.json").meta["error"] == "gup: addr=0x7e0000000000 is not mapped (MM-4) (-EFAULT)"


def test_options_go_on_top_of_a_scenario_file(place):
    (place / "run.toml").write_text('size = "64 KiB"\nsystem = "page"\nseed = 4\n')
    report = report_of("--scenario", "run.toml", "--seed", "5")
    assert (report["result"], report["system"], report["seed"]) == (65536, "page", 5)


def test_a_scenario_of_a_report_can_be_run_again(place):
    first = report_of("--size", "64KiB", "--fragmentation", "0.9")
    (place / "again.json").write_text(json.dumps(first["scenario"]))
    assert report_of("--scenario", "again.json") == first


def test_ctrl_c_ends_a_run_without_a_complaint():
    with subprocess.Popen(
        [LABKIT, "run", "--count", "1000000", "--size", "64KiB"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        time.sleep(1)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (130, "", "")


@pytest.mark.host
@pytest.mark.parametrize("system", ["phyr", "page"])
def test_a_real_loop_device_gets_scattered_memory(place, system):
    report = report_of(
        *f"--system {system} --device loop --op write --size 1MiB --folio 4KiB --fragmentation 0.9".split()
    )
    assert (report["device"], report["result"], report["verified"], report["dma"]) == ("loop", 1048576, True, [])
    assert len(report["phyrs"]) > 200
    assert sum(count for _, count in report["requests"]) == 2048
    assert len(report["requests"]) >= 2
    assert loops_over(place) == []


@pytest.mark.host
@pytest.mark.parametrize("system", ["phyr", "page"])
@pytest.mark.parametrize("op", ["read", "write"])
def test_a_real_loop_device_gets_a_huge_folio_as_one_range(place, system, op):
    report = report_of(*f"--system {system} --device loop --op {op} --size 1MiB --folio 2MiB".split())
    assert (report["result"], report["verified"]) == (1048576, True)
    assert len(report["phyrs"]) == 1
    assert report["requests"] == [[0, 2048]]
    assert report["bios"] == [{"sector": 0, "bytes": 1048576, "segments": 16}]
    assert loops_over(place) == []


@pytest.mark.host
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_of_a_loop_run_leaves_nothing_attached(place, number, code):
    with subprocess.Popen(
        [LABKIT, "run", "--device", "loop", "--count", "1000000", "--size", "64KiB"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        end = time.monotonic() + 20
        while not loops_over(place) and time.monotonic() < end:
            time.sleep(0.01)
        assert len(loops_over(place)) == 1
        time.sleep(0.5)
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (code, "", "")
    assert loops_over(place) == []
    assert list(place.glob("labkit-*/*")) == []


@pytest.mark.host
def test_a_broken_scenario_on_a_real_device_leaves_nothing_attached(place):
    done = labkit("run", "--device", "loop", "--offset", "16GiB", "--op", "write")
    assert (done.returncode, done.stderr[-10:]) == (2, "(-ENOSPC)\n")
    assert loops_over(place) == []


ORDINARY = """
import os, sys
import labkit.cli.main, labkit.cli.run  # while they can still be read
from labkit.cli.refusal import say
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
labkit.cli.main.main()
"""


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["story", "json"])
def test_an_ordinary_user_is_told_what_it_takes(place, form):
    place.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", ORDINARY, "run", "--device", "loop", *form],
        capture_output=True, text=True, timeout=60, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 3
    assert "or simulate one: labkit run --device nvme" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(("(-EACCES)\n", "(-EPERM)\n", "(-ENOENT)\n"))  # or no module: the remedy says so
    if form:
        assert json.loads(done.stdout)["error"] == done.stderr.rstrip("\n")
    else:
        assert done.stdout == ""
    assert [path.name for path in place.iterdir()] in ([], ["labkit-65534"])


def test_a_gib_in_separate_pages_on_a_terabyte_is_read_in_little_memory():
    report = report_of("--ram", "1TiB", "--size", "1GiB", "--folio", "4KiB", "--fragmentation", "1", "--resident")
    assert (report["result"], report["verified"], report["pins"]["held"]) == (1 << 30, True, 0)
    assert report["pins"]["taken"] == 1 << 18
    assert len(report["phyrs"]) == 4096
    assert report["phyrs_total"] > 200_000
    if "resident" in report:  # the bytes themselves lie in the arenas, twice: in memory and on the medium
        assert report["resident"]["rest"] < 160 << 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no /dev/full")
@pytest.mark.parametrize("command", [["run", "--json"], ["run"], ["doctor", "--json"], ["demo", "--list"]])
def test_output_that_nobody_takes_is_a_sentence(command):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [LABKIT, *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "labkit: standard output cannot be written: No space left on device (-ENOSPC)\n"
