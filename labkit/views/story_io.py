"""Records of files, rings and waiting requests become sentences."""

from collections.abc import Callable
from typing import Any

from labkit.trace.events import (
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
    IomapDioComplete,
    IomapDioRwBegin,
    IomapIterDstmap,
    IoUringComplete,
    IoUringQueueAsyncWork,
    IoUringSubmitReq,
    IovIterZero,
)
from labkit.units import SECTOR_SHIFT, human_bytes
from labkit.views.words import count, errno_name, errno_sentence

KINDS = {
    "mapped": "blocks that hold data", "hole": "a hole, no blocks at all", "inline": "inside the inode itself",
    "unwritten": "blocks that nothing was written to yet", "delalloc": "blocks that are promised, and lie nowhere yet",
}  # fmt: skip
"""What each type of extent is."""


def _sectors(nr_sector: int) -> str:
    return human_bytes(nr_sector << SECTOR_SHIFT)


def _begin(rec: IomapDioRwBegin) -> str:
    return f"The file (inode {rec.ino}, {human_bytes(rec.isize)}) takes {human_bytes(rec.nbytes)} at byte {rec.pos:,}."


def _extent(rec: IomapIterDstmap) -> str:
    what = KINDS.get(rec.type, rec.type)
    where = f", at byte {rec.addr:,} of the device" if rec.addr >= 0 else ""
    also = f" ({rec.flags.replace(' ', ', ')})" if rec.flags else ""
    return f"{human_bytes(rec.length)} of the file from byte {rec.offset:,} on are {what}{where}{also}."


def _done(rec: IomapDioComplete) -> str:
    if rec.error:
        return f"The file is done with {errno_name(rec.error)}: {errno_sentence(rec.error)}."
    return f"The file is done: {rec.ret:,} bytes, and what was unwritten or beyond the end is settled."


def _zero(rec: IovIterZero) -> str:
    return f"The CPU writes zeros over {human_bytes(rec.nbytes)} of the buffer, from byte {rec.start:,} of the IO on."


def _remap(rec: BlockBioRemap) -> str:
    return f"The bio goes on to {rec.dev}: what was sector {rec.sector:,} is sector {rec.new_sector:,} there."


def _bio_dies(rec: BlockBioComplete) -> str:
    how = f"with {errno_name(rec.error)}" if rec.error else "well"
    return f"Bio {rec.bio}, {_sectors(rec.nr_sector)}, ends {how} before it is a request."


def _split(rec: BlockSplit) -> str:
    why = f", since {rec.why}" if rec.why else ""
    rule = f" ({rec.rule})" if rec.rule else ""
    return f"The bio is more than the queue takes at once: its front ends at sector {rec.new_sector:,}{why}{rule}."


def _unplug(rec: BlockUnplug) -> str:
    verb = "goes" if rec.nr_rq == 1 else "go"
    return f"The plug is pulled: {count(rec.nr_rq, 'request')} {verb} on."


def _joins(rec: BlockBioBackmerge | BlockBioFrontmerge) -> str:
    where = "behind the end" if isinstance(rec, BlockBioBackmerge) else "before the start"
    what = f"{_sectors(rec.nr_sector)} of bio {rec.bio}"
    return f"{what} join request {rec.rq}, {where} of it: {count(rec.segments, 'segment')} more, and no new tag."


def _rq_joins(rec: BlockRqMerge) -> str:
    return f"Request {rec.rq} takes its neighbour {rec.other} in, whose tag {rec.tag} is free now."


def _insert(rec: BlockRqInsert) -> str:
    return f"Request {rec.rq} waits in the queue, with tag {rec.tag}: {_sectors(rec.nr_sector)}."


def _requeue(rec: BlockRqRequeue) -> str:
    return f"The driver has no room now: request {rec.rq} waits, and is handed over again later (BLK-1)."


def _submit(rec: IoUringSubmitReq) -> str:
    memory = f", into registered buffer {rec.buf_index}" if rec.buf_index >= 0 else ""
    return f"Entry {rec.user_data} of the submission queue is taken: {rec.opcode}{memory}."


def _worker(rec: IoUringQueueAsyncWork) -> str:
    return f"Entry {rec.user_data} would have had to wait: a worker thread does it again from the start (R18)."


def _complete(rec: IoUringComplete) -> str:
    what = f"{rec.res:,} bytes" if rec.res >= 0 else f"{errno_name(rec.res)}, {errno_sentence(rec.res)}"
    return f"Entry {rec.user_data} of the submission queue has its completion: {what}."


TELL_IO: dict[type, tuple[str, str | Callable[[Any], str], Callable[[Any], str]]] = {
    IomapDioRwBegin: ("file", "__iomap_dio_rw", _begin),
    IomapIterDstmap: ("file", "iomap_iter", _extent),
    IomapDioComplete: ("file", "iomap_dio_complete", _done),
    IovIterZero: ("file", "iov_iter_zero", _zero),
    BlockBioRemap: ("block", "trace_block_bio_remap", _remap),
    BlockBioComplete: ("block", "bio_endio", _bio_dies),
    BlockSplit: ("block", "bio_split", _split),
    BlockPlug: ("block", "blk_add_rq_to_plug", lambda _: "The first request is kept back in a plug: more may join it."),
    BlockUnplug: ("block", "blk_mq_flush_plug_list", _unplug),
    BlockBioBackmerge: ("block", "bio_attempt_back_merge", _joins),
    BlockBioFrontmerge: ("block", "bio_attempt_front_merge", _joins),
    BlockRqMerge: ("block", "attempt_merge", _rq_joins),
    BlockRqInsert: ("block", "blk_mq_insert_request", _insert),
    BlockRqRequeue: ("block", "blk_mq_requeue_request", _requeue),
    IoUringSubmitReq: ("ring", "io_submit_sqe", _submit),
    IoUringQueueAsyncWork: ("ring", "io_queue_iowq", _worker),
    IoUringComplete: ("ring", "io_fill_cqe_req", _complete),
}
"""For each of these record types: the layer, the kernel's function, and the sentence."""
