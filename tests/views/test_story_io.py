import pytest

from labkit.trace.events import (
    RECORDS,
    BlockBioBackmerge,
    BlockBioComplete,
    BlockBioFrontmerge,
    BlockBioRemap,
    BlockPlug,
    BlockRqInsert,
    BlockRqMerge,
    BlockRqRequeue,
    BlockSplit,
    BlockUnplug,
    FolioEndIo,
    IomapDioComplete,
    IomapDioRwBegin,
    IomapIterDstmap,
    IoUringComplete,
    IoUringQueueAsyncWork,
    IoUringSubmitReq,
    IovIterZero,
)
from labkit.trace.trace import Trace
from labkit.views.lanes import lanes
from labkit.views.story import story

TOLD = [
    (IomapDioRwBegin(0, 1, 12, 65536, 4096, 8192), "The file (inode 12, 64 KiB) takes 8 KiB at byte 4,096.",
     "__iomap_dio_rw"),
    (IomapIterDstmap(0, 1, 12, -1, 8192, 4096, "hole"),
     "4 KiB of the file from byte 8,192 on are a hole, no blocks at all.", "iomap_iter"),
    (IomapIterDstmap(0, 1, 12, 65536, 0, 4096, "mapped", "new dirty"),
     "4 KiB of the file from byte 0 on are blocks that hold data, at byte 65,536 of the device (new, dirty).",
     "iomap_iter"),
    (IomapDioComplete(0, 1, 12, 0, -5, -5), "The file is done with -EIO: the device could not do it.",
     "iomap_dio_complete"),
    (IovIterZero(0, 1, 4096, 8192), "The CPU writes zeros over 8 KiB of the buffer, from byte 4,096 of the IO on.",
     "iov_iter_zero"),
    (BlockBioRemap(0, 1, 1, 8, 8, 2056, "nvme0n1"),
     "The bio goes on to nvme0n1: what was sector 8 is sector 2,056 there.", "trace_block_bio_remap"),
    (BlockBioComplete(0, 1, 3, 8, 8, -11), "Bio 3, 4 KiB, ends with -EAGAIN before it is a request.", "bio_endio"),
    (BlockSplit(0, 1, 1, 0, 32, "SPLIT-3d", "it is so"),
     "The bio is more than the queue takes at once: its front ends at sector 32, since it is so (SPLIT-3d).",
     "bio_split"),
    (BlockPlug(0, 1), "The first request is kept back in a plug: more may join it.", "blk_add_rq_to_plug"),
    (BlockUnplug(0, 1, 1), "The plug is pulled: one request goes on.", "blk_mq_flush_plug_list"),
    (BlockUnplug(0, 1, 3), "The plug is pulled: three requests go on.", "blk_mq_flush_plug_list"),
    (BlockBioBackmerge(0, 1, 2, 1, 8, 16, 2),
     "8 KiB of bio 2 join request 1, behind the end of it: two segments more, and no new tag.",
     "bio_attempt_back_merge"),
    (BlockBioFrontmerge(0, 1, 2, 1, 8, 16, 1),
     "8 KiB of bio 2 join request 1, before the start of it: one segment more, and no new tag.",
     "bio_attempt_front_merge"),
    (BlockRqMerge(0, 1, 1, 2, 7, 8, 16), "Request 1 takes its neighbour 2 in, whose tag 7 is free now.",
     "attempt_merge"),
    (BlockRqInsert(0, 1, 1, 7, 8, 16), "Request 1 waits in the queue, with tag 7: 8 KiB.", "blk_mq_insert_request"),
    (BlockRqRequeue(0, 1, 1, 7, 8, 16),
     "The driver has no room now: request 1 waits, and is handed over again later (BLK-1).", "blk_mq_requeue_request"),
    (IoUringSubmitReq(0, 1, "READ_FIXED", 9, 0),
     "Entry 9 of the submission queue is taken: READ_FIXED, into registered buffer 0.", "io_submit_sqe"),
    (IoUringQueueAsyncWork(0, 1, 9),
     "Entry 9 would have had to wait: a worker thread does it again from the start (R18).", "io_queue_iowq"),
    (IoUringComplete(0, 1, 9, 4096), "Entry 9 of the submission queue has its completion: 4,096 bytes.",
     "io_fill_cqe_req"),
]  # fmt: skip


@pytest.mark.parametrize(("rec", "text", "function"), TOLD, ids=[type(row[0]).__name__ for row in TOLD])
def test_what_happens_to_files_rings_and_requests_is_told_with_its_function(rec, text, function):
    (line,) = story(Trace((rec,), meta={"kernel": "7.3"}))
    assert (line.text, line.function, line.origin) == (text, function, "upstream 7.3")


def test_finding_a_folio_by_its_address_is_proposed_and_walking_is_upstream():
    meta = {"kernel": "7.3"}
    for origin, said in (("proposed", "proposed"), ("upstream", "upstream 7.3")):
        (line,) = story(Trace((FolioEndIo(0, 1, 1, "x", origin, 1, 1, 0, write=False),), meta=meta))
        assert line.origin == said


def test_every_record_type_has_a_bar_in_some_lane_but_the_calls_own():
    filled = {int: 1, str: "x", bool: True}
    bare = set()
    for kind in RECORDS.values():
        rec = kind(*(filled.get(hint, ((4096, 4096),)) for hint in kind.__annotations__.values()))
        if not lanes(Trace((rec,))).spans["lane"]:
            bare.add(kind.__name__)
    assert bare == {"SysEnter", "SysExit", "DeviceStart", "DeviceDma"}
