import struct

import pytest

from labkit.machine import Machine


def records(name, **knobs):
    with Machine(device="virtio", ram="128 MiB", fragmentation=0, **knobs) as machine:
        machine.run()
        return machine, [rec for rec in machine.trace.records if type(rec).__name__ == name]


def test_a_read_of_4_kib_is_a_table_of_three_with_the_header_the_kernel_writes():
    _, (add,) = records("VirtqueueAdd", dma="direct", size=4096, offset=8192)
    assert (add.indirect, add.entries, add.descriptor_bytes, add.len) == (True, 3, 48, 4096)
    assert struct.unpack("<IIQ", bytes.fromhex(add.header)) == (0, 0, 16)
    descs = list(struct.iter_unpack("<QIHH", bytes.fromhex(add.descs)))
    assert [(n, flags, after) for _, n, flags, after in descs] == [(16, 1, 1), (4096, 3, 2), (1, 2, 0)]


def test_a_write_lets_the_device_read_its_data():
    _, (add,) = records("VirtqueueAdd", dma="direct", size=4096, op="write")
    assert struct.unpack("<IIQ", bytes.fromhex(add.header)) == (1, 0, 0)
    assert [flags for _, _, flags, _ in struct.iter_unpack("<QIHH", bytes.fromhex(add.descs))] == [1, 1, 2]


def test_what_was_written_into_memory_is_told_and_the_status():
    for op, written in (("read", 4097), ("write", 1)):
        _, (done,) = records("VirtblkDone", size=4096, op=op)
        assert (done.status, done.len) == (0, written)


def test_without_indirect_tables_the_chain_is_in_the_ring_and_half_as_many_requests_fit():
    machine, (add,) = records("VirtqueueAdd", size=4096, profile={"indirect": 0})
    assert (add.indirect, add.descriptor_bytes, machine.queue.limits.nr_requests) == (False, 0, 128)


def test_a_ring_that_is_full_stops_the_queue_until_there_is_room():
    profile = {"indirect": 0, "queue_size": 16, "read_ns": 1_000_000}
    with Machine(device="virtio", ram="128 MiB", fragmentation=1, size="1 MiB", profile=profile) as machine:
        assert machine.run()["verified"]
        names = [type(rec).__name__ for rec in machine.trace.records]
    assert names.count("BlockRqRequeue") > 0
    assert (machine.driver.outstanding, machine.driver.vring.num_free) == (0, 16)


@pytest.mark.parametrize("count", [3])
def test_one_disk_serves_one_after_the_other(count):
    machine, done = records("VirtblkDone", size=512, count=count)
    assert [rec.status for rec in done] == [0] * count
    assert machine.driver.outstanding == 0
