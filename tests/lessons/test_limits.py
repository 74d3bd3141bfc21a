import pytest

from labkit.kernel.block.limits import QueueLimits
from labkit.lessons import limits
from labkit.lessons.limits import mine

SDA, LOOP = QueueLimits(max_segments=168, max_hw_sectors=2048), QueueLimits()


@pytest.fixture
def queues(monkeypatch):
    monkeypatch.setattr(limits, "own_queues", lambda: {"loop0": LOOP, "sda": SDA})


@pytest.mark.usefixtures("queues")
def test_the_first_real_device_goes_before_loop_devices():
    found = mine()
    assert (found.name, found.limits) == ("sda", SDA)
    assert found.source == "Read from the queue of sda, of this machine, just now."


@pytest.mark.usefixtures("queues")
def test_a_device_may_be_asked_for_by_its_name():
    assert mine("loop0").limits is LOOP


@pytest.mark.usefixtures("queues")
def test_a_name_that_is_none_is_said_and_the_drive_of_the_lab_stands_in():
    found = mine("<b>")
    assert found.source == "No block device '<b>' tells its limits here: these are those of the lab's NVMe drive."
    assert (found.limits.max_segments, found.limits.virt_boundary_mask) == (33, 0)  # SGLs may begin anywhere
    assert "<b>" not in found._repr_html_()


def test_a_machine_without_devices_says_so(monkeypatch):
    monkeypatch.setattr(limits, "own_queues", dict)
    assert mine().source.startswith("No block device tells its limits here")


@pytest.mark.usefixtures("queues")
def test_every_limit_has_a_line_with_its_rule():
    lines = repr(mine()).splitlines()
    assert len(lines) == 15
    (segments,) = [line for line in lines if line.startswith("max_segments")]
    assert "168" in segments
    assert segments.endswith("(LIM-3)")
