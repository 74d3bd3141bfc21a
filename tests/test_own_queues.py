from labkit.machine import own_queues as door
from labkit.machine.own_queues import own_queues

VALUES = {
    "logical_block_size": 512, "physical_block_size": 4096, "max_sectors_kb": 1280, "max_hw_sectors_kb": 2048,
    "max_segments": 168, "max_segment_size": 65536, "dma_alignment": 3, "virt_boundary_mask": 0, "nr_requests": 64,
}  # fmt: skip


def test_queues_become_limits_and_one_that_tells_too_little_is_left_out(monkeypatch):
    monkeypatch.setattr(door, "queues", lambda: {"sda": VALUES, "old": {"max_segments": 1}})
    found = own_queues()
    assert list(found) == ["sda"]
    assert (found["sda"].max_sectors, found["sda"].max_segments, found["sda"].nr_requests) == (2560, 168, 64)


def test_whatever_this_machine_has_can_be_asked_for():
    assert all(limits.max_sectors >= 8 for limits in own_queues().values())
