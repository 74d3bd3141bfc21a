import json

from labkit.scatter.range_array import RangeArray
from labkit.trace.events import BlockBioQueue, BlockGetrq, BlockRqIssue, DmaMap, GupPin, GupUnpin, SysEnter, SysExit
from labkit.trace.summary import summary
from labkit.trace.trace import Trace

VA = 0x7F00_0000_0000
TWO_BIOS = (
    SysEnter(100, 1, "pread64", 3, VA, 12288, 8192),
    GupPin(110, 1, 1, "page", VA, ((0x7000, 4096), (0x8000, 4096)), 2, 2, 2, 64),
    BlockBioQueue(120, 1, 1, 16, 16, 2, 0),
    BlockGetrq(120, 1, 1, 1, 0, 16, 8, 1),
    DmaMap(130, 1, 1, ((0xFF000, 4096),), ((0x7000, 4096),), 1, 1, 1, 16),
    BlockRqIssue(140, 1, 1, 0, 16, 8),
    BlockGetrq(150, 1, 1, 2, 1, 24, 8, 1),
    BlockRqIssue(160, 1, 2, 1, 24, 8),
    GupPin(170, 1, 2, "page", VA + 8192, ((0x9000, 4096),), 1, 1, 1, 64),
    BlockBioQueue(170, 1, 2, 32, 8, 1, 8192),
    BlockGetrq(180, 1, 2, 3, 2, 32, 8, 1),
    BlockRqIssue(190, 1, 3, 2, 32, 8),
    GupUnpin(200, 1, 1, 2, 2),
    SysExit(300, 1, "pread64", 12288),
)


def test_a_run_in_numbers():
    report = summary(Trace(TWO_BIOS))
    assert report == {
        "result": 12288,
        "phyrs": [[0x7000, 12288]],
        "bios": [{"sector": 16, "bytes": 8192, "segments": 2}, {"sector": 32, "bytes": 4096, "segments": 1}],
        "requests": [[16, 8], [24, 8], [32, 8]],
        "dma": [[0xFF000, 4096]],
        "pins": {
            "taken": 3, "released": 2, "held": 1, "policy": "page", "atomics": 5, "cache_lines": 0, "bytes": 128,
            "release_ns": 0,
        },
        "meters": {
            "descriptor_bytes": 144, "pin_atomics": 5, "struct_pages_touched": 6, "conversions": 4, "dma_maps": 1,
            "iotlb_syncs": 0, "ioptes": 0, "iotlb_hits": 0, "iotlb_misses": 0, "bounced_bytes": 0,
        },
        "sim_ns": 200,
    }  # fmt: skip


def test_the_lists_are_of_the_first_io_and_the_result_of_the_last():
    again = (*tuple(rec._replace(io=2, t=rec.t + 300) for rec in TWO_BIOS[:1]), SysExit(900, 2, "pread64", 512))
    report = summary(Trace(TWO_BIOS + again))
    assert (report["result"], len(report["bios"]), report["sim_ns"]) == (512, 2, 800)


def test_the_first_call_that_failed_is_the_result():
    failed = SysExit(300, 1, "pread64", -14)
    assert summary(Trace((TWO_BIOS[0], failed, SysExit(400, 2, "pread64", 512))))["result"] == "-EFAULT"


def test_a_run_without_a_call_has_no_result():
    report = summary(Trace(()))
    assert (report["result"], report["sim_ns"], report["phyrs"]) == (None, 0, [])


def test_of_a_very_long_list_the_front_is_told_and_its_length():
    pages = RangeArray(range(0, 5000 * 8192, 8192), [4096] * 5000)
    pin = GupPin(110, 1, 1, "range", VA, pages, 5000, 5000, 0, 80000)
    maps = tuple(DmaMap(130, 1, rq, pages[rq : rq + 1], pages[rq : rq + 1], 1, 0, 0, 0) for rq in range(4096))
    report = summary(Trace((TWO_BIOS[0], pin, *maps)))
    assert (len(report["phyrs"]), report["phyrs_total"]) == (4096, 5000)
    assert report["phyrs"][-1] == [4095 * 8192, 4096]
    assert len(report["dma"]) == 4096
    assert [name for name in report if name.endswith("_total")] == ["phyrs_total"]
    json.dumps(report)


def test_phyrs_are_joined_across_pins_whichever_form_they_have():
    pin = GupPin(110, 1, 1, "page", VA, RangeArray.join([((0x7000, 4096), (0x8000, 4096))]), 2, 2, 2, 64)
    rest = pin._replace(token=2, ranges=((0x9000, 4096), (0x21000, 512)))
    assert summary(Trace((TWO_BIOS[0], pin, rest)))["phyrs"] == [[0x7000, 12288], [0x21000, 512]]
