from dataclasses import replace

import pytest

from labkit.errors import BadInput
from labkit.hardware.clock import Clock
from labkit.hardware.device import Command
from labkit.hardware.iommu import Fills
from labkit.hardware.media.xpoint import Xpoint, XpointProfile
from labkit.hardware.nvme.controller import NvmeCtrl, Profile
from labkit.hardware.nvme.spec import CONTROLLER_FATAL, CQE, PSDT_SGL, SQE
from labkit.hardware.ram import RAM
from labkit.machine import DATA

PROFILE = Profile(overhead_ns=7_000, link_bytes_per_ns=8.0, mdts=4, queue_depth=4, sgl=1)
CHIPS = XpointProfile(nbytes=1 << 20, units=4, read_ns=60_000, write_ns=12_000)
SQ, CQ = 0x1000, 0x2000


class Bench:
    """A drive alone on a bus, and a queue pair in memory."""

    def __init__(self, profile=PROFILE, chips=CHIPS, fills=None):
        self.clock, self.raw, self.ram = Clock(), [], RAM(memoryview(bytearray(4 << 20)))
        medium = Xpoint(self.clock, memoryview(bytearray(chips.nbytes)), chips)
        self.ctrl = NvmeCtrl(self.clock, self.ram, medium, profile, self.raw.append, fills)
        self.ctrl.create_queues(SQ, CQ)
        self.ended = []

    def submit(self, opcode, slba, blocks, prp1, prp2=0, slot=0, cid=3, flags=0):
        self.ram.view(SQ + 64 * slot, 64)[:] = SQE.pack(opcode, flags, cid, 1, prp1, prp2, slba, blocks - 1, 0)
        self.ctrl.submit(
            Command(1, 1, slot, opcode == 1, slba, blocks << 9, ()),
            lambda status: self.ended.append((self.clock.now, status)),
        )

    def run(self):
        self.clock.run()
        return [status for _, status in self.ended]

    def put(self, at, *entries):
        self.ram.view(at, 8 * len(entries))[:] = b"".join(entry.to_bytes(8, "little") for entry in entries)

    def cqe(self, slot):
        return CQE.unpack(self.ram.view(CQ + 16 * slot, 16))


def test_the_profile_of_the_lab_has_these_numbers():
    profile = Profile.load(DATA / "nvme.toml")
    assert (profile.overhead_ns, profile.queue_depth, profile.mdts_bytes, profile.sgl) == (7_000, 1024, 512 << 10, 1)


@pytest.mark.parametrize(("mdts", "nbytes"), [(0, 0), (1, 8192), (10, 4 << 20)])
def test_mdts_is_a_power_of_two_of_pages_and_0_no_limit(mdts, nbytes):
    assert Profile.load(DATA / "nvme.toml", {"mdts": mdts}).mdts_bytes == nbytes


@pytest.mark.parametrize(
    "wrong", [{"mdts": -1}, {"mdts": 1.5}, {"mdts": 256}, {"sgl": 2}, {"queue_depth": 1}, {"link_bytes_per_ns": 0}]
)
def test_a_profile_that_makes_no_sense_is_one_sentence(wrong):
    with pytest.raises(BadInput, match=r"^profile: nvme.toml: \w+=.* is not a (whole )?number from .*\(-EINVAL\)$"):
        Profile.load(DATA / "nvme.toml", wrong)


def test_a_read_moves_the_bytes_and_takes_sensing_overhead_and_link():
    bench = Bench()
    bench.ctrl.poke(4096, b"r" * 4096)
    bench.submit(2, 8, 8, 0x10000)
    bench.clock.run()
    assert bench.ended == [(60_000 + 7_000 + 512, 0)]
    assert bytes(bench.ram.view(0x10000, 4096)) == b"r" * 4096
    assert bench.raw == [("DeviceStart", 0, 1, 1, 1), ("DeviceDma", 67_512, 1, 1, False, 4096)]


class Pieces:
    """A bus that answers with a view for every `most` bytes."""

    def __init__(self, ram, most):
        self.ram, self.most = ram, most

    def views(self, addr, nbytes, _write=False):
        starts = range(addr, addr + nbytes, self.most)
        return [self.ram.view(at, min(self.most, addr + nbytes - at)) for at in starts]


@pytest.mark.parametrize("most", [8, 24, 1000])
def test_a_bus_may_answer_in_pieces(most):
    bench = Bench()
    bench.ctrl.bus = Pieces(bench.ram, most)
    bench.put(0x30000, 0x20000, 0x12000)
    bench.ctrl.poke(4096, bytes(range(256)) * 40)
    bench.submit(2, 8, 20, 0x10000, 0x30000)
    assert bench.run() == [0]
    assert bench.cqe(0)[3:] == (3, 1)
    found = bench.ram.gather(((0x10000, 4096), (0x20000, 4096), (0x12000, 2048)))
    assert found == bytes(range(256)) * 40


def test_a_write_moves_them_the_other_way():
    bench = Bench()
    bench.ram.view(0x10E00, 1024)[:] = b"w" * 1024
    bench.submit(1, 1, 2, 0x10E00, 0x11000)
    bench.clock.run()
    assert bench.ended == [(12_000 + 7_000 + 128, 0)]
    assert bench.ctrl.peek(0, 2048) == bytes(512) + b"w" * 1024 + bytes(512)


def test_an_sgl_goes_wherever_its_descriptors_say():
    bench = Bench()
    bench.ctrl.poke(0, b"a" * 512 + b"b" * 512)
    bench.put(0x8000, 0x10004, 512, 0x20001, 512)
    bench.submit(2, 0, 2, 0x8000, 3 << 60 | 32, flags=PSDT_SGL)
    assert bench.run() == [0]
    assert bench.ram.gather(((0x10004, 512), (0x20001, 512))) == b"a" * 512 + b"b" * 512


def test_units_work_side_by_side_and_one_after_the_other():
    bench = Bench()
    for slba in (0, 8, 32):  # pages 0, 1 and 4: the last is on the chip of the first
        bench.submit(2, slba, 8, 0x10000)
    bench.clock.run()
    assert [at for at, _ in bench.ended] == [67_512, 68_024, 127_512]
    assert [(rec[1], rec[4]) for rec in bench.raw if rec[0] == "DeviceStart"] == [(0, 0), (0, 1), (60_000, 0)]


@pytest.mark.parametrize(
    ("opcode", "flags", "slba", "blocks", "status"),
    [
        (9, 0, 0, 1, 0x1), (2, 0, 0, 129, 0x2), (2, 0, 2047, 2, 0x80), (1, 0, 1 << 40, 1, 0x80), (2, 0, 2047, 1, 0),
        (2, 0x80, 0, 1, 0x2), (2, 0xC0, 0, 1, 0x2),
    ],
)  # fmt: skip
def test_a_command_that_makes_no_sense_gets_a_status(opcode, flags, slba, blocks, status):
    bench = Bench()
    bench.submit(opcode, slba, blocks, 0x10000, 0x11000, flags=flags)
    assert bench.run() == [status]
    assert bench.cqe(0) == (0, 0, 1, 3, status << 1 | 1)


def test_a_drive_without_sgls_takes_none():
    bench = Bench(replace(PROFILE, sgl=0))
    bench.submit(2, 0, 1, 0x10000, 512, flags=PSDT_SGL)
    assert bench.run() == [0x2]


def test_a_drive_without_mdts_takes_any_length():
    bench = Bench(replace(PROFILE, mdts=0))
    bench.put(0x30000, *range(0x100000, 0x100000 + 63 * 4096, 4096))
    bench.submit(2, 0, 512, 0x10000, 0x30000)
    assert bench.run() == [0]


def test_a_prp_list_that_breaks_the_rules_is_an_invalid_offset_and_moves_nothing():
    bench = Bench()
    bench.ctrl.poke(0, b"x" * 12288)
    bench.put(0x30000, 0x20000, 0x12200)
    bench.submit(2, 0, 24, 0x10000, 0x30000)
    assert bench.run() == [0x13]
    assert bytes(bench.ram.view(0x10000, 4096)) == bytes(4096)


def test_an_address_that_nothing_answers_to_is_a_transfer_error_and_is_told():
    bench = Bench()
    bench.submit(2, 0, 8, 8 << 20)
    bench.submit(2, 8, 32, 0x10000, 8 << 20, slot=1)
    assert bench.run() == [0x4, 0x4]
    assert [rec[0] for rec in bench.raw] == ["DeviceStart", "DeviceStart", "IoPageFault", "IoPageFault"]
    assert [rec[2:5] for rec in bench.raw[2:]] == [(1, 1, 8 << 20), (1, 1, 8 << 20)]


def test_a_command_that_cannot_be_fetched_is_fatal_for_the_controller():
    bench = Bench()
    bench.ctrl.create_queues(8 << 20, CQ)
    bench.submit(2, 0, 8, 0x10000)
    bench.clock.run()
    assert bench.ended == [(7_000, CONTROLLER_FATAL)]


def test_a_completion_that_cannot_be_written_is_fatal_too_and_the_ring_stays():
    bench = Bench()
    bench.ctrl.create_queues(SQ, 8 << 20)
    bench.submit(2, 0, 8, 0x10000)
    bench.clock.run()
    assert bench.ended == [(67_512, CONTROLLER_FATAL)]
    assert bench.cqe(0) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_memory_that_is_not_dword_aligned_is_an_invalid_prp_offset(offset):
    bench = Bench()
    bench.submit(2, 0, 1, 0x10000 + offset)
    bench.clock.run()
    assert bench.ended == [(7_000, 0x13)]


def test_completions_go_round_a_ring_whose_phase_turns():
    bench = Bench()
    for slot in range(6):
        bench.submit(2, 0, 1, 0x10000, slot=slot % 4, cid=slot)
        bench.clock.run()
    assert [bench.cqe(slot)[3:] for slot in range(4)] == [(4, 0), (5, 0), (2, 1), (3, 1)]


def test_one_unit_serves_a_large_command_page_after_page():
    bench = Bench(chips=replace(CHIPS, units=1))
    bench.submit(2, 0, 16, 0x10000, 0x11000)
    bench.clock.run()
    assert bench.ended == [(120_000 + 7_000 + 1024, 0)]


@pytest.mark.parametrize(("opcode", "status"), [(2, 0x281), (1, 0x280)])
def test_a_bad_sector_is_an_error_of_the_medium_and_moves_nothing(opcode, status):
    bench = Bench()
    bench.ctrl.health.bad.append((3, 4))
    bench.submit(opcode, 0, 8, 0x10000)
    bench.submit(opcode, 8, 8, 0x10000, slot=1)
    assert bench.run() == [status, 0]
    assert [rec[0] for rec in bench.raw].count("DeviceDma") == 1


def test_a_short_transfer_moves_half_of_the_bytes_and_says_so():
    bench = Bench()
    bench.ctrl.health.short = 1
    bench.ctrl.poke(0, b"x" * 8192)
    bench.submit(2, 0, 16, 0x10000, 0x20000)
    assert bench.run() == [0x4]
    assert bench.raw[-1][-1] == 4096
    assert (bytes(bench.ram.view(0x10000, 4096)), bytes(bench.ram.view(0x20000, 4096))) == (b"x" * 4096, bytes(4096))


def test_a_lost_interrupt_leaves_its_completion_in_the_queue():
    bench = Bench()
    bench.ctrl.health.losing = 1
    bench.submit(2, 0, 8, 0x10000)
    assert bench.run() == []
    assert bench.cqe(0)[3:] == (3, 1)


def test_a_stuck_command_is_answered_when_it_is_aborted_and_not_before():
    bench = Bench()
    bench.ctrl.health.stuck = 1
    bench.submit(2, 0, 8, 0x10000, cid=7)
    assert bench.run() == []
    bench.ctrl.abort(8)
    assert bench.run() == []
    bench.ctrl.abort(7)
    assert bench.run() == [0x7]


@pytest.mark.parametrize("what", ["wedged", "gone"])
def test_what_answers_nothing_answers_no_abort_and_does_not_come_back(what):
    bench = Bench()
    bench.submit(2, 0, 8, 0x10000)
    setattr(bench.ctrl.health, what, True)
    bench.submit(2, 0, 8, 0x10000, slot=1, cid=4)
    bench.ctrl.abort(4)
    assert bench.run() == []
    assert not bench.ctrl.reset()
    assert [rec[0] for rec in bench.raw] == ["DeviceStart"]


@pytest.mark.parametrize("at", [0, 1, 60_000, 67_300])
def test_a_reset_forgets_what_was_on_its_way_and_memory_stays_as_it_is(at):
    bench = Bench()
    bench.ctrl.poke(0, b"x" * 4096)
    bench.submit(2, 0, 8, 0x10000)
    bench.submit(2, 0, 8, 0x10000, slot=1)  # waits for the same chip
    if at:
        bench.clock.run(until=at)
    assert bench.ctrl.reset()
    assert bench.run() == []
    assert bytes(bench.ram.view(0x10000, 4096)) == bytes(4096)
    bench.ctrl.create_queues(SQ, CQ)
    bench.submit(2, 0, 8, 0x10000)
    assert bench.run() == [0]
    assert bench.cqe(0)[3:] == (3, 1)


def test_what_an_iotlb_did_is_told_after_the_transfer_if_it_did_anything():
    told = [Fills(((0x10000, 4096),), (), 1, 2), None]
    bench = Bench(fills=lambda: told.pop(0))
    bench.submit(2, 0, 8, 0x10000)
    bench.submit(2, 8, 8, 0x10000, slot=1)
    bench.clock.run()
    assert [rec for rec in bench.raw if rec[0] == "IotlbFill"] == [
        ("IotlbFill", 67_512, 1, 1, ((0x10000, 4096),), (), 1, 2)
    ]
