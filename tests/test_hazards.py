"""What gets in the way of an IO, under each way to pin: who survives, who is corrupted, and for which reason."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.kernel.mm.pin.policies import POLICIES
from labkit.machine import Machine
from labkit.machine.fixed import Fixed
from labkit.trace.events import DeviceStart, GupPin, Hazard, Violation

LABKIT = Path(sys.executable).with_name("labkit")
PINS = ("page", "folio", "range", "lease", "none", "upstream")
"""Ways to pin under system=phyr, and pin=page of system=page."""
TABLE = {
    "munmap": "done        done        done        waited       done BAD  done",
    "mprotect": "done        done        done        done         done      done",
    "migrate": "refused     refused     refused     waited       done BAD  refused",
    "compact": "refused     refused     refused     waited       done BAD  refused",
    "fork": "done        done        done        waited       done BAD  done",
    "truncate": "orphaned    orphaned    orphaned    waited       done BAD  orphaned",
    "ksm": "refused     refused     refused     waited       done BAD  refused",
    "unplug": "missed      missed      refused     waited       done BAD  missed",
    "unplug-surprise": "missed      missed      done BAD    done BAD     done BAD  missed",
    "early-unpin": "done BAD    done BAD    done BAD    done BAD     done BAD  done BAD",
    "double-unpin": "refused     refused     refused     refused      refused   done BAD",
    "missing-unpin": "done BAD    done BAD    done BAD    done BAD     done      done BAD",
}
"""By hazard, in the order of PINS; BAD: not survived. A GPU has nothing for page and folio to count on: no IO."""
CASES = [
    (hazard, pin, what)
    for hazard, row in TABLE.items()
    for pin, what in zip(PINS, row.replace(" BAD", "-BAD").split(), strict=True)
]


def run(hazard, pin, **more):
    """Return (report, machine) of 64 KiB under `hazard`; nothing real is held afterwards, and the trace tells all."""
    how = {"system": "page"} if pin == "upstream" else {"pin": pin}
    with Machine(**{"hazard": hazard, "size": "64 KiB"} | how | more) as machine:
        report = machine.run()
        machine.clock.run()
        assert machine.ledger.held == {}
        assert machine.frames.orphans == []
        assert machine.queue.in_flight == {}
        assert machine.maps.held == {}
        assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
        return report, machine


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize(
    "where",
    [{}, {"fs": "ext4", "offset": "4 KiB"}, {"api": "io_uring"}, {"fs": "xfs", "api": "aio", "scatter": 1.0}],
    ids=["device", "file", "ring", "file-aio"],
)
@pytest.mark.parametrize(("hazard", "pin", "what"), CASES, ids=lambda value: value)
def test_the_table(hazard, pin, what, where, op):
    report, _ = run(hazard, pin, op=op, **where)
    bad = "-BAD" in what and not (op == "write" and hazard == "fork")  # the child's page holds what is written, too
    survived = None if what == "missed" else not bad  # nobody was put to the test
    assert (report["hazard"]["outcome"], report["survived"]) == (what.removesuffix("-BAD"), survived)


@pytest.mark.parametrize("at", ["GupPin", "BlockRqIssue", "DeviceStart"])
@pytest.mark.parametrize("pin", PINS)
def test_before_the_bytes_move_the_moment_does_not_matter(pin, at):
    assert run("migrate", pin, at=at)[0]["survived"] == (pin != "none")


@pytest.mark.parametrize("at", ["DeviceDma", "BlockRqComplete"])
@pytest.mark.parametrize("hazard", ["munmap", "migrate", "fork", "truncate", "ksm"])
def test_when_the_bytes_have_moved_nothing_is_lost(hazard, at):
    assert run(hazard, "none", at=at)[0]["survived"]


@pytest.mark.parametrize(
    ("hazard", "event"),
    [("migrate", "migration"), ("compact", "migration"), ("fork", "fork"), ("ksm", "ksm"), ("unplug", "unplug")],
)
@pytest.mark.parametrize("pin", POLICIES)
def test_a_policy_keeps_from_happening_what_it_says(hazard, event, pin):
    blocks = None if (hazard, pin) in {("unplug", "page"), ("unplug", "folio")} else event in POLICIES[pin].blocks
    assert run(hazard, pin)[0]["survived"] is blocks


@pytest.mark.parametrize(
    ("hazard", "pin", "why"),
    [
        ("migrate", "page", "has 1025 references where 1 are accounted for (MM-21) (-EAGAIN)"),
        ("migrate", "range", "is held by a pin in the ledger (-EAGAIN)"),
        ("ksm", "folio", "looks pinned, and stays exclusive (MM-22) (-EBUSY)"),
        ("unplug", "range", "gpu0 is held by a pin in the ledger (-EBUSY)"),
        ("double-unpin", "page", "pin token 1 is not held, and is let go of (PHYR-17) (-EINVAL)"),
        ("truncate", "page", "its pages are pinned, and live on in no file (MM-24)"),
        ("fork", "page", "it keeps its pages, the child has copies"),
        ("fork", "none", "it gets copies, the child keeps the pages"),
    ],
)
def test_the_reason_is_the_kernels(hazard, pin, why):
    assert why in run(hazard, pin)[0]["hazard"]["text"]


def test_the_first_wrong_byte_is_told_with_the_record_that_moved_it():
    report, machine = run("munmap", "none")
    (wrong,) = report["violations"]
    assert (wrong["invariant"], wrong["record"]) == ("bytes", "DeviceDma")
    assert bytes.fromhex(wrong["expected"]) == b"somebody else's "
    assert bytes.fromhex(wrong["found"]) in machine.device.peek(0, 64 << 10)
    assert machine.ram.gather(((wrong["addr"], 16),)).hex() == wrong["found"]


def test_a_write_takes_the_bytes_of_the_next_owner_to_the_medium():
    report, machine = run("munmap", "none", op="write")
    (wrong,) = report["violations"]
    assert bytes.fromhex(wrong["found"]) == b"somebody else's " == machine.device.peek(0, 16)


def test_the_hazard_comes_in_the_instant_of_its_record_and_is_told():
    _, machine = run("migrate", "range")
    (told,) = machine.trace.of(Hazard)
    assert told.t == machine.trace.of(DeviceStart)[0].t
    assert (told.name, told.io) == ("migrate", 1)
    assert machine.trace.of(Violation) == ()


def test_a_lease_lets_the_io_end_first():
    _, machine = run("truncate", "lease")
    names = [type(rec).__name__ for rec in machine.trace]
    assert names.index("GupUnpin") < names.index("MmFilemapDeleteFromPageCache") < names.index("Hazard")


def test_a_machine_of_many_requests_and_a_skewed_buffer_is_judged_too():
    report, _ = run("migrate", "none", skew=512, iommu="strict", check=True)
    assert {row["invariant"] for row in report["violations"]} == {"bytes", "dma-to-unpinned"}


def test_a_huge_page_is_given_away_frame_by_frame():
    assert not run("munmap", "none", folio="2MiB", size="2MiB")[0]["survived"]
    assert run("munmap", "folio", folio="2MiB", size="2MiB")[0]["survived"]
    assert run("munmap", "none", folio="2MiB")[0]["survived"]  # the rest of the mapping has the folio still


def test_a_hazard_to_memory_of_another_kind_is_refused():
    report, _ = run("truncate", "range", folio="4KiB")
    assert report["hazard"]["text"] == "truncate: memory of kind anon is of no file (-EINVAL)"
    assert (report["hazard"]["outcome"], report["survived"]) == ("refused", True)


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize("pin", ["page", "folio", "range", "lease", "upstream"])
@pytest.mark.parametrize("at", ["GupPin", "DeviceStart", "BlockRqComplete"])
def test_a_registered_buffer_that_is_unmapped_during_its_io_is_let_go_of_with_its_registration(pin, at, op):
    report, machine = run("munmap", pin, folio="registered", at=at, op=op)
    assert (report["survived"], report["violations"], report["pins"]["held"]) == (True, [], 0)
    assert machine.trace.of(Hazard)[0].t >= next(rec.t for rec in machine.trace.of(GupPin) if rec.io)


def test_a_pin_that_is_left_after_the_release_of_its_buffer_is_a_violation(monkeypatch):
    monkeypatch.setattr(Fixed, "release", lambda *_: None)
    with Machine(folio="registered", hazard="munmap", size="64 KiB") as machine:
        report = machine.run()
    assert [row["invariant"] for row in report["violations"]] == ["pins"]
    assert report["violations"][0]["text"] == "token 1 is held still, and its buffer is released"
    assert not report["survived"]


@pytest.mark.parametrize("pin", PINS)
@pytest.mark.parametrize("at", ["GupPin", "DeviceStart"])
def test_a_registration_is_let_go_of_early_and_the_bytes_go_astray(pin, at):
    report, _ = run("early-unpin", pin, folio="registered", at=at)
    assert report["hazard"]["text"].startswith("1 pins are let go of while the device uses the memory")
    assert (report["hazard"]["outcome"], report["survived"]) == ("done", False)


@pytest.mark.parametrize("pin", ["page", "folio", "range", "lease", "upstream"])
@pytest.mark.parametrize("hazard", ["missing-unpin", "double-unpin"])
def test_a_registered_buffer_is_counted_wrong_as_any_other_is(hazard, pin):
    report, _ = run(hazard, pin, folio="registered")
    refused = hazard == "double-unpin" and pin != "upstream"
    assert (report["hazard"]["outcome"], report["survived"]) == (("refused", True) if refused else ("done", False))


@pytest.mark.parametrize("hazard", list(TABLE))
@pytest.mark.parametrize("at", ["GupPin", "DeviceStart"])
def test_the_kernels_own_buffer_is_refused_in_a_sentence_where_nothing_can_happen_to_it(hazard, at):
    report, _ = run(hazard, "range", folio="kvec", at=at)
    assert report["error"] is None
    assert report["survived"] is (hazard != "missing-unpin")


@pytest.mark.parametrize("hazard", [name for name in TABLE if name not in {"double-unpin", "missing-unpin"}])
def test_the_zero_page_is_written_out_as_zeros_whatever_happens_to_its_mapping(hazard):
    report, machine = run(hazard, "range", folio="zero", op="write")
    assert (report["survived"], report["violations"]) == (True, [])
    assert machine.device.peek(0, 64 << 10) == bytes(64 << 10)


def test_a_read_only_buffer_is_written_out_as_the_zeros_that_it_holds():
    assert run("munmap", "range", buffer="readonly", op="write")[0]["survived"]


@pytest.mark.parametrize(
    ("folio", "why"),
    [
        ("zero", "is of pages that are not anonymous, which ksm leaves alone"),
        ("file", "is of pages that are not anonymous, which ksm leaves alone"),
        ("64KiB", "is of large folios, which ksm leaves alone"),
        ("4KiB", "looks pinned, and stays exclusive (MM-22)"),
    ],
)
def test_ksm_says_why_it_leaves_the_buffer_alone(folio, why):
    assert why in run("ksm", "range", folio=folio, op="write")[0]["hazard"]["text"]


def test_a_hazard_that_never_comes_puts_nobody_to_the_test():
    code, out = labkit("run", "--hazard", "unplug", "--pin", "page", "--size", "16KiB", "--json")
    report = json.loads(out)
    assert (report["hazard"]["outcome"], report["survived"], code) == ("missed", None, 2)
    assert report["result"] == "-EFAULT"
    text = labkit("run", "--hazard", "unplug", "--pin", "page", "--size", "16KiB")[1]
    assert "nobody was put to the test" in text
    assert "survived" not in text


def labkit(*args):
    done = subprocess.run([LABKIT, *args], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(("pin", "code"), [("range", 0), ("none", 1)])
def test_the_command_line_says_so_and_leaves_with_its_code(pin, code):
    told, out = labkit("run", "--hazard", "migrate", "--pin", pin, "--size", "16KiB", "--json")
    report = json.loads(out)
    assert told == code
    assert report["hazard"]["at"] == "DeviceStart"
    assert set(report["hazard"]) == {"name", "at", "outcome", "text"}
    assert report["survived"] == (code == 0)
    keys = {"invariant", "at", "record", "text", "addr", "expected", "found"}
    assert all(set(row) == keys for row in report["violations"])


def test_the_terminal_is_told_too():
    code, out = labkit("run", "--hazard", "munmap", "--pin", "none", "--size", "16KiB")
    assert code == 1
    assert "munmap at DeviceStart: done, the task unmaps its buffer of 4 pages" in out
    assert "✗ bytes at 0x" in out
    assert "survived" in labkit("run", "--check", "--size", "16KiB")[1]


@pytest.mark.parametrize("pin", ["range", "upstream"])
@pytest.mark.parametrize(("stack", "safe"), [("partition", False), ("stripe", False), ("crypt", True)])
def test_what_is_encrypted_first_is_safe_from_a_pin_that_goes_while_the_device_reads(stack, safe, pin):
    """D-14: the device of an encrypted disk reads pages of the kernel's own, and no user's."""
    assert run("early-unpin", pin, op="write", stack=stack)[0]["survived"] is safe
    assert run("early-unpin", pin, op="read", stack=stack)[0]["survived"] is False


@pytest.mark.parametrize("pin", ["range", "page", "upstream"])
@pytest.mark.parametrize(("hazard", "outcome"), [("munmap", "done"), ("migrate", "refused"), ("fork", "done")])
def test_a_buffer_that_a_ring_has_registered_stays_where_it_is(hazard, outcome, pin):
    report, _ = run(hazard, pin, api="io_uring-fixed")
    assert (report["hazard"]["outcome"], report["survived"]) == (outcome, True)
