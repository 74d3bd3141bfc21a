import os
from pathlib import Path

import pytest

from labkit.errors import NotAllowed
from labkit.host.disk import below
from labkit.host.disk.loopdev import LoopDevice

pytestmark = pytest.mark.host


@pytest.fixture
def device():
    with LoopDevice.attach(1 << 20) as device:
        yield device


def test_a_device_has_the_number_that_traces_filter_by(device):
    major, minor = Path(f"/sys/block/{Path(device.path).name}/dev").read_text().split(":")
    assert below.kdev(device) == (int(major) << 20) + int(minor)


def test_the_disk_below_is_the_one_of_the_file(device):
    number = device.backing.stat().st_dev
    assert below.kdev_below(device) == (os.major(number) << 20) + os.minor(number)


def test_backing_io_is_switched_and_sysfs_says_so(device):
    told = Path(f"/sys/block/{Path(device.path).name}/loop/dio")
    below.set_direct_io(device, on=False)
    assert told.read_text() == "0\n"
    below.set_direct_io(device, on=True)
    assert told.read_text() == "1\n"


def test_a_file_in_memory_lies_on_no_disk():
    shm = Path("/dev/shm")  # noqa: S108 - labkit's own directory below it
    with LoopDevice.attach(1 << 20, directory=shm) as device, pytest.raises(NotAllowed, match="lies on no disk"):
        below.kdev_below(device)
