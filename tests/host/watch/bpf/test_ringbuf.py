import mmap
import os
import struct

import pytest

from labkit.host.watch.bpf import calls, ringbuf
from labkit.host.watch.bpf.ringbuf import RingBuffer

BUSY, DISCARD = 1 << 31, 1 << 30
SIZE = mmap.PAGESIZE


class Kernel:
    """The other side: a file that stands for the map, written as the kernel writes a ring."""

    def __init__(self, fd):
        self.memory = mmap.mmap(fd, 4 * SIZE)
        self.at = 0

    def write(self, data, bits=0):
        record = struct.pack("=II", len(data) | bits, 0) + data
        for i, byte in enumerate(record, self.at):
            for base in (2 * SIZE, 3 * SIZE):  # it is mapped twice in a row
                self.memory[base + i % SIZE] = byte
        head = self.at
        self.at += len(record) + 7 & ~7
        self.memory[SIZE : SIZE + 8] = struct.pack("=Q", self.at)
        return head


@pytest.fixture
def both(monkeypatch, place):
    file = (place / "map").open("w+b")
    file.truncate(4 * SIZE)
    monkeypatch.setattr(calls, "map_create", lambda *_: os.dup(file.fileno()))
    monkeypatch.setattr(ringbuf, "_SECONDS", 0.01)
    ring, kernel = RingBuffer(SIZE), Kernel(file.fileno())
    yield ring, kernel
    ring.close()
    kernel.memory.close()
    file.close()


def test_records_come_in_their_order_and_once(both):
    ring, kernel = both
    assert list(ring.take()) == []
    for data in (b"one", b"two two ", b""):
        kernel.write(data)
    assert list(ring.take()) == [b"one", b"two two ", b""]
    assert list(ring.take()) == []


def test_a_record_that_was_given_up_is_passed_over(both):
    ring, kernel = both
    kernel.write(b"gone", DISCARD)
    kernel.write(b"here")
    assert list(ring.take()) == [b"here"]


def test_a_record_that_is_still_written_ends_what_can_be_taken_now(both):
    ring, kernel = both
    kernel.write(b"first")
    head = kernel.write(b"later", BUSY)
    kernel.write(b"last")
    assert list(ring.take()) == [b"first"]
    kernel.memory[2 * SIZE + head : 2 * SIZE + head + 4] = struct.pack("=I", 5)
    assert list(ring.take()) == [b"later", b"last"]


def test_the_ring_goes_round_and_a_record_over_its_end_is_whole(both):
    ring, kernel = both
    for turn in range(50):
        data = bytes([turn]) * 1000
        kernel.write(data)
        assert list(ring.take()) == [data]


def test_what_is_taken_in_part_goes_on_where_it_was_left(both):
    ring, kernel = both
    kernel.write(b"one")
    kernel.write(b"two")
    assert next(ring.take()) == b"one"
    assert list(ring.take()) == [b"two"]
