from labkit.trace.events import RECORDS
from labkit.trace.trace import Trace
from labkit.views.story import Line, story


def test_each_record_is_one_sentence(small):
    assert [line.text for line in story(small)] == [
        "The task maps 12 KiB (anon 4 KiB, rw-) at 0x7f00_0000_0000.",
        "Three folios of 4 KiB come from the buddy allocator and are mapped at 0x7f00_0000_0000: two physical ranges.",
        "The task calls pread64: 12 KiB into its memory at 0x7f00_0000_0000, from byte 4,096 of file 3.",
        "Three page table entries walked, 12 KiB pinned as two physical ranges, whole, with two atomic operations.",
        "The block device file takes 12 KiB by its simple path.",
        "A bio of 12 KiB in two vectors enters the block layer at sector 8.",
        "Request 1 gets tag 0: 12 KiB from sector 8, two segments.",
        "The memory of request 1, two ranges, becomes one device address, 12 KiB from 0xffe0_0000 on.",
        "Command 0 is written for the drive: 12 KiB from block 8, PRP1 0xffe0_0000, three PRP entries in all.",
        "Request 1 goes to the driver: 12 KiB from sector 8.",
        "The device begins request 1 on its channel 5.",
        "12 KiB of request 1 have moved from the device into memory.",
        "The completion of command 0 is seen: success.",
        "The device addresses of request 1 are given back, yet stay in the IOTLB until it is flushed.",
        "Request 1 is done, and tag 0 is free.",
        "The pinned memory is let go of as a whole: two atomic operations, no struct pages touched.",
        "pread64 returns 12,288 bytes.",
    ]


def test_a_line_has_its_time_layer_function_and_origin(small):
    lines = story(small)
    assert lines[3] == Line(220, "pin", lines[3].text, "get_user_phyrs", "proposed")
    assert lines[9] == Line(900, "block", lines[9].text, "blk_mq_start_request", "upstream 6.18")
    assert lines[10] == Line(900, "device", lines[10].text, "", "ours")
    assert lines[15][1:] == ("unpin", lines[15].text, "put_user_phyrs", "proposed")


def test_pages_are_pinned_by_what_is_upstream(traces):
    pin = traces.SMALL.records[3]._replace(policy="page", struct_pages=3, atomics=3)
    (line,) = story(Trace((pin,), meta={"kernel": "6.18"}))
    assert (line.function, line.origin) == ("pin_user_pages_fast", "upstream 6.18")
    assert line.text == (
        "Three page table entries walked, 12 KiB pinned page by page: three struct pages touched, "
        "three atomic operations, two physical ranges."
    )


def test_the_trace_may_say_whose_idea_it_is(small):
    told = Trace(small.records, meta={"origin": {"memory": "proposed (Wilcox, 2022)"}})
    assert story(told)[3].origin == "proposed (Wilcox, 2022)"


def test_a_failure_has_its_name_and_its_reason(traces):
    assert story(traces.FAILED)[-1].text == (
        "pread64 ends with -EFAULT: an address of the buffer is not mapped, or does not allow this access."
    )


def test_every_record_type_has_a_sentence():
    filled = {int: 1, str: "x", bool: True}
    for kind in RECORDS.values():
        values = [filled.get(hint, ((4096, 4096),)) for hint in kind.__annotations__.values()]
        (line,) = story(Trace((kind(*values),)))
        assert line.text.endswith(".")
        assert line.layer


def test_an_empty_trace_has_no_story(traces):
    assert story(traces.EMPTY) == []
