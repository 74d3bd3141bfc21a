"""The power fails: what was synced, or written to last, is there, and the rest is old or new, sector by sector."""

import pytest

from labkit.machine import Machine
from labkit.machine.volume import MOUNT
from labkit.units import SECTOR_SIZE

CACHED = ("nvme", "ahci")
"""Devices that may lose what they have acknowledged."""
DEVICES = (*CACHED, "optane", "virtio", "disk", "pmem", "null", "delay")
NBYTES = 1 << 16
SEEDS = range(8)


class Lab:
    """A file of old bytes, and a buffer of new ones; its device remembers what each write replaces."""

    def __init__(self, flags="O_RDWR|O_DIRECT", **knobs):
        self.machine = Machine(ram="96 MiB", **knobs)
        volume, self.task = self.machine.volume, self.machine.task()
        volume.mkfs("xfs")
        volume.create("f", NBYTES)
        self.old, self.new = bytes([1]) * NBYTES, bytes([2]) * NBYTES
        volume.poke(MOUNT + "f", 0, self.old)
        self.fd, self.buf = self.task.open(MOUNT + "f", flags), self.task.mmap(NBYTES)
        self.task.store(self.buf, self.new)
        self.task.settle(self.buf)
        self.machine.medium.journal()

    def left(self, seed):
        """Return what the medium holds of the file after the power has failed."""
        self.machine.medium.power_cut(seed)
        return self.machine.volume.peek(MOUNT + "f", 0, NBYTES)


@pytest.mark.parametrize("kernel", ["6.1", "7.3"])
@pytest.mark.parametrize("stack", ["none", "partition", "stripe", "crypt"])
@pytest.mark.parametrize("flags", ["O_RDWR", "O_RDWR|O_DIRECT"])
@pytest.mark.parametrize("device", DEVICES)
def test_what_was_synced_outlives_the_power(device, flags, stack, kernel):
    lab = Lab(flags, device=device, stack=stack, kernel=kernel)
    lab.task.pwrite(lab.fd, lab.buf, NBYTES)
    lab.task.fsync(lab.fd)
    assert lab.left(1) == lab.new


@pytest.mark.parametrize("stack", ["none", "partition", "stripe", "crypt"])
@pytest.mark.parametrize("system", ["phyr", "page", "unified"])
@pytest.mark.parametrize("device", DEVICES)
def test_what_goes_with_dsync_outlives_the_power_without_a_sync(device, system, stack):
    lab = Lab(device=device, system=system, stack=stack)
    lab.task.pwrite(lab.fd, lab.buf, NBYTES, 0, "RWF_DSYNC")
    assert lab.left(1) == lab.new


@pytest.mark.parametrize("device", CACHED)
def test_what_was_only_acknowledged_is_old_or_new_by_sector(device):
    found = []
    for seed in SEEDS:
        lab = Lab(device=device)
        lab.task.pwrite(lab.fd, lab.buf, NBYTES)
        left = lab.left(seed)
        found += [left[at : at + SECTOR_SIZE] for at in range(0, NBYTES, SECTOR_SIZE)]
    assert set(found) == {bytes([1]) * SECTOR_SIZE, bytes([2]) * SECTOR_SIZE}


@pytest.mark.parametrize("device", sorted(set(DEVICES) - set(CACHED)))
def test_a_device_without_a_cache_keeps_what_it_has_acknowledged(device):
    lab = Lab(device=device)
    lab.task.pwrite(lab.fd, lab.buf, NBYTES)
    assert lab.left(1) == lab.new


@pytest.mark.parametrize("device", CACHED)
def test_a_drive_whose_cache_is_switched_off_needs_no_flush(device):
    lab = Lab(device=device, profile={"cache_bytes": 0})
    assert not lab.machine.queue.limits.write_cache
    lab.task.pwrite(lab.fd, lab.buf, NBYTES)
    assert lab.left(1) == lab.new
