from labkit.scatter.range_array import RangeArray
from labkit.trace.events import (
    AtaQcIssue,
    DmaMap,
    DmaUnmap,
    GupPin,
    GupUnpin,
    IotlbFill,
    IotlbFlush,
    NvmeSetupCmd,
    SysExit,
    VirtqueueAdd,
)
from labkit.trace.meters import Meters, Pins, meters, pins

PIN = GupPin(0, 1, 1, "page", 0x7F00_0000_0000, ((0x7000, 4096), (0x21000, 4096)), 2, 2, 2, 64)
UNPIN = GupUnpin(9, 1, 1, 2, 2)
MAP = DmaMap(2, 1, 1, ((0xFF000, 8192),), PIN.ranges, 2, 2, 2, 16)
SETUP = NvmeSetupCmd(3, 1, 1, 0, 16, 8192, 0xFF000, 0x100000, 2, 256, "00" * 64)


def test_nothing_costs_nothing():
    assert meters([]) == Meters(0, 0, 0, 0, 0, 0)
    assert meters([SysExit(0, 1, "pread64", 0)]) == Meters()


def test_each_record_adds_what_it_says():
    assert meters([PIN]).as_dict() == {
        "descriptor_bytes": 64, "pin_atomics": 2, "struct_pages_touched": 2, "conversions": 2, "dma_maps": 0,
        "iotlb_syncs": 0, "ioptes": 0, "iotlb_hits": 0, "iotlb_misses": 0, "bounced_bytes": 0,
    }  # fmt: skip
    assert meters([UNPIN]) == Meters(pin_atomics=2, struct_pages_touched=2)
    assert meters([MAP]) == Meters(descriptor_bytes=16, struct_pages_touched=2, conversions=2, dma_maps=2)
    assert meters([SETUP]) == Meters(descriptor_bytes=256)
    assert meters([DmaUnmap(5, 1, 1, 1, stale=False), IotlbFlush(8, 0, 3)]) == Meters(iotlb_syncs=4)
    assert meters([IotlbFill(5, 1, 1, ((0, 4096),), (), 3, 1)]) == Meters(iotlb_hits=3, iotlb_misses=1)
    assert meters([VirtqueueAdd(3, 1, 1, 0, 0, 8192, True, 3, 64, "", "")]) == Meters(descriptor_bytes=64)
    assert meters([AtaQcIssue(3, 1, 1, 0, 0, 8192, 2, 80, "", "")]) == Meters(descriptor_bytes=80)


def test_a_bounce_is_counted_on_both_ways():
    there = MAP._replace(bounced=4096, ioptes=2)
    back = DmaUnmap(5, 1, 1, 0, stale=False, bounced=4096)
    found = meters([there, back])
    assert (found.bounced_bytes, found.ioptes) == (8192, 2)


def test_a_run_is_the_sum_of_its_records():
    assert meters([PIN, MAP, SETUP, DmaUnmap(5, 1, 1, 1, stale=False), UNPIN]) == Meters(336, 4, 6, 4, 2, 1)


def test_pins_are_counted_in_frames():
    assert pins([PIN, UNPIN]) == Pins(taken=2, released=2)
    assert pins([PIN]).held == 2
    assert pins([]).held == 0


def test_a_range_counts_every_frame_that_it_touches():
    across = GupPin(0, 1, 1, "range", 0x7F00_0000_0200, ((0x64200, 7680), (0x12C000, 1024)), 3, 2, 0, 32)
    assert pins([across]).taken == 3
    assert pins([across._replace(ranges=((0x7FFF, 2),))]).taken == 2


def test_a_list_in_columns_is_counted_alike():
    ranges = ((0x64200, 7680), (0x12C000, 1024), (0x7FFF, 2))
    columns = PIN._replace(ranges=RangeArray.join([ranges]))
    assert pins([columns]).taken == pins([PIN._replace(ranges=ranges)]).taken == 5


def test_rule_mm17_a_pin_that_counts_nowhere_is_none_and_pairs_all_the_same():
    zero_page = PIN._replace(atomics=0)
    assert pins([zero_page]) == pins([zero_page, UNPIN._replace(atomics=0)]) == Pins(taken=0, released=0)
