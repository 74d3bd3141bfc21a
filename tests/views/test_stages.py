import pytest

from labkit.trace.events import AtaQcIssue, Fault, IotlbFill, LoRwAio, NvmeSetupCmd, PmemSubmitBio, VirtqueueAdd
from labkit.trace.trace import Trace
from labkit.views.lanes import GREY, PIN_HUE, lanes
from labkit.views.stages import LANES, MORE, STAGE, driver

ADDED = VirtqueueAdd(0, 1, 1, 0, 0, 4096, True, 3, 48, "", "")
ISSUED = AtaQcIssue(0, 1, 1, 0, 0, 4096, 1, 16, "", "")
SETUP = NvmeSetupCmd(0, 1, 1, 0, 0, 4096, 0, 0, 1, 0, "")


@pytest.mark.parametrize(
    ("rec", "name"),
    [
        (SETUP, "NVMe driver"),
        (ADDED, "virtio-blk"),
        (ISSUED, "AHCI driver"),
        (PmemSubmitBio(0, 1, 1, write=False, len=512), "pmem driver"),
        (LoRwAio(0, 1, 1, 0, 512), "loop driver"),
        (Fault(0, 1, "x", "y"), "driver"),
    ],
)
def test_a_driver_is_known_by_the_records_that_are_its_own(rec, name):
    assert driver(Trace((rec,))) == name


def test_every_stage_is_in_a_lane_that_there_is():
    assert {lane for lane, _ in STAGE.values()} <= {*range(len(LANES)), *MORE}


def test_translations_and_faults_have_lanes_where_they_happen():
    picture = lanes(Trace((IotlbFill(0, 1, 1, (), (), 1, 0), Fault(5, 1, "unplug", "gone"))))
    assert [name for _, name in picture.names][-2:] == ["IOTLB", "faults"]
    assert list(zip(picture.spans["label"], picture.spans["hue"], strict=True)) == [
        ("fault", PIN_HUE), ("translate", GREY),
    ]  # fmt: skip
