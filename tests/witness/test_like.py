"""Every capture in the simulated machine: the same result, the same bytes, and no invariant broken."""

import pytest

from labkit.errors import BadInput, errno_name
from labkit.trace.events import BlockBioQueue, BlockRqIssue, BlockSplit, GupPin, SysExit
from labkit.trace.state import state_at
from labkit.units import PAGE_SHIFT
from labkit.witness.capture import Capture
from labkit.witness.like import like


def spelled(capture):
    return [errno_name(-res) if isinstance(res, int) and res < 0 else res for res in capture.result]


def ranges(done):
    return {run for rec in done.trace.of(GupPin) for run in rec.ranges}


def refused_if_of_a_peer(capture, **knobs):
    if capture.mode == "p2p":
        with pytest.raises(BadInput, match="has memory of another device"):
            like(capture, **knobs)
        return None
    return like(capture, **knobs)


def test_a_real_capture_comes_to_the_same_with_every_invariant_looked_at(real):
    capture = Capture.of(real)
    done = refused_if_of_a_peer(capture, check=True)
    if done is not None:
        assert done.results == spelled(capture)
        assert (done.verified, done.report["violations"]) == (True, [])
        assert done.trace.meta["like"]["capture"] == capture.id


def test_one_made_by_hand_does_too(by_hand):
    capture = Capture.of(by_hand)
    done = refused_if_of_a_peer(capture, check=True)
    if done is not None:
        assert done.results == spelled(capture)
        assert (done.verified, done.report["violations"]) == (True, [])


def test_bios_lie_in_the_frames_that_the_kernel_used(captured):
    capture = Capture.of(captured("05-1m-random-4k"))
    done = like(capture)
    (bio,) = [bio for bio in capture.bios if bio["event"] == "queue"]
    pinned = sorted(ranges(done))
    assert pinned == sorted((addr, n) for addr, n in bio["bvecs"])
    assert [rec.vecs for rec in done.trace.of(BlockBioQueue)] == [bio["vcnt"]]


def test_the_trace_tells_all_of_the_machine(captured):
    for name in ("15-synth", "25-zero", "62-xfs4096"):
        done = like(Capture.of(captured(name)))
        assert state_at(done.trace.records, done.machine.clock.now) == done.machine.snapshot()


@pytest.mark.parametrize("system", ["phyr", "unified", "premapped"])
def test_the_same_IO_on_the_same_frames_in_another_currency(captured, system):
    capture = Capture.of(captured("18-synth"))
    today, other = like(capture), like(capture, system=system, check=True)
    assert (other.results, other.verified, other.report["violations"]) == (today.results, True, [])
    frames = [sum(n >> PAGE_SHIFT for _, n in ranges(done)) for done in (today, other)]
    assert frames == [3840, 3840]
    assert other.trace.meta["scenario"]["system"] == system


def test_phyr_pins_a_buffer_of_large_folios_by_few_operations(captured):
    capture = Capture.of(captured("24-iov"))
    atomics = [sum(rec.atomics for rec in like(capture, system=name).trace.of(GupPin)) for name in ("page", "phyr")]
    assert atomics[0] > atomics[1]


def test_another_device_has_limits_of_its_own(captured):
    capture = Capture.of(captured("33-max64k"))
    assert len(like(capture).trace.of(BlockRqIssue)) == 96
    on_nvme = like(capture, device="nvme")
    assert 1 < len(on_nvme.trace.of(BlockRqIssue)) < 96
    assert on_nvme.machine.disk == "nvme0n1"


def test_a_limit_may_be_another(captured):
    capture = Capture.of(captured("07-1m-thp"))
    assert [rec.nr_sector for rec in like(capture, limits={"max_sectors": 512}).trace.of(BlockRqIssue)] == [512] * 4


def test_the_device_is_a_loop_device_by_name_and_in_simulated_time(captured):
    done = like(Capture.of(captured("01-one-page")))
    assert done.trace.meta["device"] == {"name": "loop0", "nbytes": 268435456, "clock": "simulated"}


@pytest.mark.parametrize(
    ("knob", "told"), [({"dma": "direct"}, ("direct", "off")), ({"iommu": "lazy"}, (None, "lazy"))]
)
def test_a_drive_may_be_mapped_otherwise_than_it_was(captured, knob, told):
    capture = Capture.of(captured("013-7.3-strict-1mthp"))
    assert like(capture).trace.meta["scenario"]["iommu"] == "strict"
    scenario = like(capture, **knob).trace.meta["scenario"]
    assert (scenario["dma"], scenario["iommu"]) == told


def test_a_seed_chooses_the_bytes_and_the_waits(captured):
    capture = Capture.of(captured("01-one-page"))
    ends = [like(capture, seed=seed).trace.of(SysExit)[-1].t for seed in (1, 1, 2)]
    assert ends[0] == ends[1] != ends[2]


def test_merged_bios_at_odd_bytes_fail_in_the_file_of_a_loop_device(captured):
    done = like(Capture.of(captured("three-entries-at-odd-bytes-on-a-loop-device")))
    assert done.results == ["-EINVAL"] * 3
    assert done.error.endswith("failed in the device (BLK-1) (-EINVAL)")


def test_a_failure_of_the_IO_is_a_result_and_its_sentence(captured):
    done = like(Capture.of(captured("30-vvar")))
    assert (done.results, done.verified) == (["-EFAULT"], True)
    assert done.error == "gup: addr=0x7f91f6745000 is not mapped (MM-4) (-EFAULT)"


@pytest.mark.parametrize("knob", ["size", "folio", "hazard", "fs", "ram", "nonsense"])
def test_what_the_capture_says_is_no_knob(captured, knob):
    with pytest.raises(BadInput, match=rf"^like: {knob} is the capture's to say"):
        like(Capture.of(captured("01-one-page")), **{knob: 1})


def test_a_real_device_is_none_to_be_simulated(captured):
    with pytest.raises(BadInput, match="device=loop is a real device"):
        like(Capture.of(captured("01-one-page")), device="loop")


def test_a_frame_that_no_machine_has_is_refused_and_never_shown_elsewhere(captured):
    values = captured("01-one-page")
    values["layout"]["before"][0][1] = 0xA5
    with pytest.raises(BadInput, match=r"frames 0xa5 to 0xa5 are no RAM"):
        like(Capture.of(values))


def test_bios_are_those_that_the_kernel_was_seen_to_fill(real):
    capture = Capture.of(real)
    done = refused_if_of_a_peer(capture)
    if done is not None and capture.bios is not None:
        queued = [bio for bio in capture.bios if "queue" in {bio.get("kind"), bio.get("event")}]
        seen = [(bio["sector"], bio["bytes"] >> 9, bio.get("vcnt", len(bio["bvecs"]))) for bio in queued]
        assert [(rec.sector, rec.nr_sector, rec.vecs) for rec in done.trace.of(BlockBioQueue)] == seen


def test_requests_and_splits_are_those_that_the_kernel_was_seen_to_make(real):
    capture = Capture.of(real)
    done = refused_if_of_a_peer(capture)
    if done is not None:
        for name, kind, fields in (
            ("block_rq_issue", BlockRqIssue, ("sector", "nr_sector")),
            ("block_split", BlockSplit, ("sector", "new_sector")),
        ):
            events = [event for event in capture.events if event["event"].endswith(name)]
            mine = [tuple(getattr(rec, field) for field in fields) for rec in done.trace.of(kind)]
            assert sorted(mine) == sorted(tuple(event[field] for field in fields) for event in events)
