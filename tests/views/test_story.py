import pytest

from labkit.scatter.range_array import RangeArray
from labkit.trace.events import (
    RECORDS,
    DupMmap,
    FolioFlags,
    Hazard,
    MemremapPages,
    MemunmapPages,
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    MmMigratePages,
    Mprotect,
    SetPtes,
    SplitHugePmd,
    Violation,
    ZapPtes,
)
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
        "What was pinned together is let go of together: two atomic operations, no struct pages touched.",
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


def test_each_policy_has_its_words_and_the_proposed_system_its_function(small):
    for policy, words in (
        ("folio", "pinned folio by folio"),
        ("lease", "held by a lease"),
        ("none", "used without a pin"),
    ):
        line = story(Trace((small.records[3]._replace(policy=policy),), meta=small.meta))[0]
        assert f"12 KiB {words}: no struct pages touched" in line.text
        assert (line.function, line.origin) == ("get_user_phyrs", "proposed")


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


FEW = RangeArray([0x4000, 0x8000], [4096, 8192])
ONE, TWO = ((0x4000, 4096),), ((0x8000, 8192),)
MEMORY = [
    (Mprotect(0, 0, 0x7000, 8192, "r--"), "The task changes the rights of 8 KiB at 0x7000 to r--.", "do_mprotect_pkey"),
    (DupMmap(0, 0, 0, 1), "The task forks: address space 1 maps what address space 0 does, page by page the same.",
     "dup_mmap"),
    (SetPtes(0, 0, 0x7000, 0, TWO),
     "8 KiB that are there already are mapped by two entries at 0x7000: one physical range.",
     "set_ptes"),
    (SetPtes(0, 0, 0x20_0000, 9, ((0x40_0000, 2 << 20),)),
     "2 MiB that are there already are mapped by one entry at 0x20_0000: one physical range.", "set_pmd_at"),
    (ZapPtes(0, 0, 0x7000, 4096),
     "4 KiB at 0x7000 are translated no longer; the mapping itself stays.", "zap_pte_range"),
    (SplitHugePmd(0, 0, 0x20_0000, 9), "The entry of 2 MiB at 0x20_0000 becomes 512 page table entries.",
     "__split_huge_pmd"),
    (MmFilemapAddToPageCache(0, 0, 0, 1, 8, FEW, "log"),
     "Three folios of 4 KiB become parts of the page cache of log, from 0x4000 on.", "__filemap_add_folio"),
    (MmFilemapDeleteFromPageCache(0, 0, 1, TWO), "8 KiB of a file leave the page cache, which drops its references.",
     "__filemap_remove_folio"),
    (MemremapPages(0, 0, "p2p", 0x40_0000, 2 << 20, 1, 0, 512),
     "2 MiB of p2p at 0x40_0000 get 512 struct pages, 32 KiB of RAM.",
     "memremap_pages"),
    (MemremapPages(0, 0, "gpu", 0x40_0000, 2 << 20, 0, 0, 0),
     "2 MiB of gpu at 0x40_0000 are registered without any struct page.", "request_mem_region"),
    (MemunmapPages(0, 0, "gpu", 0x40_0000, 2 << 20),
     "2 MiB of gpu at 0x40_0000 are gone, with all that described them.", "memunmap_pages"),
    (MmMigratePages(0, 0, 0, ONE, ((0x9000, 4096),)),
     "One folio of 4 KiB moves from 0x4000 to 0x9000, and what counts on it goes along.", "migrate_pages"),
    (FolioFlags(0, 0, ONE, 1 << 4, 1), "The memory at 0x4000, one page, gains dirty and loses locked.", ""),
    (Hazard(0, 1, "munmap", "the buffer goes"), "Somebody gets in the way (munmap): the buffer goes.", ""),
    (Violation(0, 1, "bytes", 3, "byte 0 is wrong.", 0x4000, "a5", "00"),
     "The invariant bytes is broken: byte 0 is wrong; at 0x4000 the bytes should be a5 and are 00.", ""),
    (Violation(0, 1, "pins", 3, "two are left"), "The invariant pins is broken: two are left.", ""),
]  # fmt: skip


@pytest.mark.parametrize(("rec", "text", "function"), MEMORY, ids=[type(row[0]).__name__ for row in MEMORY])
def test_what_happens_to_memory_is_told_with_its_function(rec, text, function):
    (line,) = story(Trace((rec,), meta={"kernel": "6.18"}))
    assert (line.text, line.function) == (text, function)
    assert line.origin == ("upstream 6.18" if function else "ours")


def test_what_a_trace_infers_says_from_where_and_is_not_called_seen(small):
    meta = {"inferred": {"MmPageAlloc": "from pagemap"}, "origin": {"records": "observed", "inferred": "inferred"}}
    lines = story(Trace(small.records, small.memory, {**small.meta, **meta}))
    assert lines[1].text == (
        "Three folios of 4 KiB are mapped at 0x7f00_0000_0000: two physical ranges. Known from pagemap."
    )
    assert [lines[at].origin for at in (1, 2, 9)] == ["inferred", "observed", "observed"]


def test_a_file_whose_number_is_not_known_has_none(small):
    unknown = Trace((small.records[2]._replace(fd=-1),))
    assert story(unknown)[0].text.endswith("from byte 4,096 of its file.")
