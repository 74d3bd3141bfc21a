from dataclasses import replace

import pytest

from labkit.hardware.clock import Clock
from labkit.hardware.device import Command
from labkit.hardware.nvme_ssd import CONTROLLER_FATAL, CQE, SQE, NvmeSsd, Profile
from labkit.hardware.ram import RAM
from labkit.machine import DATA

PROFILE = Profile(
    nbytes=1 << 20, dies=4, read_ns=60_000, write_ns=12_000, overhead_ns=7_000, link_bytes_per_ns=8.0,
    mdts_bytes=64 << 10, queue_depth=4,
)  # fmt: skip
SQ, CQ = 0x1000, 0x2000


class Bench:
    """A drive alone on a bus, and a queue pair in memory."""

    def __init__(self, profile=PROFILE):
        self.clock, self.raw, self.ram = Clock(), [], RAM(memoryview(bytearray(4 << 20)))
        self.ssd = NvmeSsd(self.clock, self.ram, memoryview(bytearray(profile.nbytes)), profile, self.raw.append)
        self.ssd.create_queues(SQ, CQ)
        self.ended = []

    def submit(self, opcode, slba, blocks, prp1, prp2=0, slot=0, cid=3):
        sqe = SQE.pack(opcode, 0, cid, 1, prp1, prp2, slba, blocks - 1, 0)
        self.ram.view(SQ + 64 * slot, 64)[:] = sqe
        self.ssd.submit(
            Command(1, 1, slot, opcode == 1, slba, blocks << 9, ()),
            lambda status: self.ended.append((self.clock.now, status)),
        )

    def put(self, at, *entries):
        self.ram.view(at, 8 * len(entries))[:] = b"".join(entry.to_bytes(8, "little") for entry in entries)

    def cqe(self, slot):
        return CQE.unpack(self.ram.view(CQ + 16 * slot, 16))


def test_the_profile_of_the_lab_has_these_numbers():
    profile = Profile.load(DATA / "nvme.toml")
    assert (profile.nbytes, profile.dies, profile.queue_depth) == (16 << 30, 32, 1024)
    assert (profile.read_ns, profile.write_ns, profile.overhead_ns) == (60_000, 12_000, 7_000)


def test_a_read_moves_the_bytes_and_takes_sensing_overhead_and_link():
    bench = Bench()
    bench.ssd.poke(4096, b"r" * 4096)
    bench.submit(2, 8, 8, 0x10000)
    bench.clock.run()
    assert bench.ended == [(60_000 + 7_000 + 512, 0)]
    assert bytes(bench.ram.view(0x10000, 4096)) == b"r" * 4096
    assert bench.raw == [("DeviceStart", 0, 1, 1, 1), ("DeviceDma", 67_512, 1, 1, False, 4096)]


class Pieces:
    """A bus that answers with a view for every `most` bytes."""

    def __init__(self, ram, most):
        self.ram, self.most = ram, most

    def views(self, addr, nbytes):
        starts = range(addr, addr + nbytes, self.most)
        return [self.ram.view(at, min(self.most, addr + nbytes - at)) for at in starts]


@pytest.mark.parametrize("most", [8, 24, 1000])
def test_a_bus_may_answer_in_pieces(most):
    bench = Bench()
    bench.ssd.bus = Pieces(bench.ram, most)
    bench.put(0x30000, 0x20000, 0x12000)
    bench.ssd.poke(4096, bytes(range(256)) * 40)
    bench.submit(2, 8, 20, 0x10000, 0x30000)
    bench.clock.run()
    assert [status for _, status in bench.ended] == [0]
    assert bench.cqe(0)[3:] == (3, 1)
    found = bench.ram.gather(((0x10000, 4096), (0x20000, 4096), (0x12000, 2048)))
    assert found == bytes(range(256)) * 40


def test_a_write_moves_them_the_other_way():
    bench = Bench()
    bench.ram.view(0x10E00, 1024)[:] = b"w" * 1024
    bench.submit(1, 1, 2, 0x10E00, 0x11000)
    bench.clock.run()
    assert bench.ended == [(12_000 + 7_000 + 128, 0)]
    assert bench.ssd.peek(0, 2048) == bytes(512) + b"w" * 1024 + bytes(512)


def test_dies_work_side_by_side_and_one_after_the_other():
    bench = Bench()
    for slba in (0, 8, 32):  # pages 0, 1 and 4: the last is on the die of the first
        bench.submit(2, slba, 8, 0x10000)
    bench.clock.run()
    assert [at for at, _ in bench.ended] == [67_512, 68_024, 127_512]
    assert [(rec[1], rec[4]) for rec in bench.raw if rec[0] == "DeviceStart"] == [(0, 0), (0, 1), (60_000, 0)]


@pytest.mark.parametrize(
    ("opcode", "slba", "blocks", "status"),
    [(9, 0, 1, 0x2), (2, 0, 129, 0x2), (2, 2047, 2, 0x80), (1, 1 << 40, 1, 0x80), (2, 2047, 1, 0)],
)
def test_a_command_that_makes_no_sense_gets_a_status(opcode, slba, blocks, status):
    bench = Bench()
    bench.submit(opcode, slba, blocks, 0x10000, 0x11000)
    bench.clock.run()
    assert [code for _, code in bench.ended] == [status]
    assert bench.cqe(0) == (0, 0, 1, 3, status << 1 | 1)


def test_an_address_that_nothing_answers_to_is_a_transfer_error():
    bench = Bench()
    bench.submit(2, 0, 8, 8 << 20)
    bench.submit(2, 8, 32, 0x10000, 8 << 20, slot=1)
    bench.clock.run()
    assert [code for _, code in bench.ended] == [0x4, 0x4]
    assert [rec[0] for rec in bench.raw] == ["DeviceStart", "DeviceStart"]


def test_a_command_that_cannot_be_fetched_is_fatal_for_the_controller():
    bench = Bench()
    bench.ssd.create_queues(8 << 20, CQ)
    bench.submit(2, 0, 8, 0x10000)
    bench.clock.run()
    assert bench.ended == [(7_000, CONTROLLER_FATAL)]


def test_a_completion_that_cannot_be_written_is_fatal_too_and_the_ring_stays():
    bench = Bench()
    bench.ssd.create_queues(SQ, 8 << 20)
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


def test_a_list_is_read_from_memory():
    bench = Bench()
    bench.put(0x8100, 0x20000, 0x30000, 0x40000)
    assert bench.ssd._parse_prps(0x10200, 0x8100, 3584 + 8192 + 512) == [
        (0x10200, 3584), (0x20000, 4096), (0x30000, 4096), (0x40000, 512),
    ]  # fmt: skip


def test_a_list_that_reaches_the_end_of_its_page_goes_on_where_its_last_slot_says():
    bench = Bench()
    bench.put(0x8FF0, 0x20000, 0x9000)
    bench.put(0x9000, 0x30000, 0x40000)
    assert bench.ssd._parse_prps(0x10000, 0x8FF0, 16384) == [
        (0x10000, 4096), (0x20000, 4096), (0x30000, 4096), (0x40000, 4096),
    ]  # fmt: skip


def test_one_die_serves_a_large_command_page_after_page():
    bench = Bench(replace(PROFILE, dies=1))
    bench.submit(2, 0, 16, 0x10000, 0x11000)
    bench.clock.run()
    assert bench.ended == [(120_000 + 7_000 + 1024, 0)]
