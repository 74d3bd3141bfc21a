"""Invariants of a request: it fits the limits of its queue, and its PRPs are what NVMe wants of them."""

from collections.abc import Iterator

from labkit.kernel.block.limits import QueueLimits
from labkit.machine.invariants.census import Broken
from labkit.machine.invariants.sent import Sent
from labkit.scatter.payload import Ranges, run_length
from labkit.trace.events import BlockSplit, DmaMap, NvmeSetupCmd
from labkit.units import PAGE_SIZE, SECTOR_SHIFT

_PRP_BYTES = 8
_IN_COMMAND = 2
"""PRPs that a command has room for; more are in lists."""


def check_request(limits: QueueLimits, rq: int, sent: Sent) -> Iterator[Broken]:
    """Invariant 3: yield what is more than the queue takes, in 512-byte sectors and in segments."""
    for what, found, most in (
        ("sectors", sent.nbytes >> SECTOR_SHIFT, max(limits.max_sectors, limits.atomic_write_unit_max >> SECTOR_SHIFT)),
        ("segments", sent.segments, limits.max_segments),
    ):
        if found > most:
            yield Broken("limits", f"request {rq} has {found} {what}, and the queue takes {most}")


def check_split(limits: QueueLimits, rec: BlockSplit) -> Iterator[Broken]:
    """Invariant 3: yield a split that is not between two logical blocks (SPLIT-5)."""
    if (rec.new_sector << 9) % limits.logical_block_size:
        text = f"bio {rec.bio} is split at sector {rec.new_sector}, inside a block of {limits.logical_block_size} bytes"
        yield Broken("limits", text)


def check_segments(limits: QueueLimits, sent: Sent, rec: DmaMap) -> Iterator[Broken]:
    """Invariant 3: yield memory of more segments than were counted, and a gap that the virt boundary does not allow."""
    memory = rec.dma if rec.how == "premapped" else rec.phys  # what the bio was made of
    want = segments(limits, memory)
    if want > sent.segments:
        text = (
            f"request {rec.rq} counts {sent.segments} segments, and its memory makes {want} within the queue's limits"
        )
        yield Broken("limits", text, rec.phys[0][0])
    mask, last = limits.virt_boundary_mask, len(memory) - 1
    for i, (addr, nbytes) in enumerate(memory):
        if (i and addr & mask) or (i < last and (addr + nbytes) & mask):
            yield Broken("limits", f"request {rec.rq} has a gap at {addr:#x} (virt boundary, NVME-6)", addr)
            return


def segments(limits: QueueLimits, ranges: Ranges) -> int:
    """Return the fewest segments that `ranges` (physical) make: none too long, none across a boundary (SPLIT-3d)."""
    count, mask = 0, limits.seg_boundary_mask
    for start, nbytes in run_length(ranges):
        addr, end = start, start + nbytes
        while addr < end:
            addr = min(end, addr + limits.max_segment_size, (addr | mask) + 1)
            count += 1
    return count


def check_prps(rec: NvmeSetupCmd, mapping: DmaMap) -> Iterator[Broken]:
    """Invariant 4: yield PRPs that are not one for each page of the transfer, or begin inside one (NVME-5)."""
    first = min(PAGE_SIZE - rec.prp1 % PAGE_SIZE, rec.length)
    want = 1 + -(-(rec.length - first) // PAGE_SIZE)
    if rec.prps != want:
        yield Broken("prps", f"request {rec.rq} has {rec.prps} PRPs, and its {rec.length} bytes need {want}")
    if rec.prp1 != mapping.dma[0][0]:
        yield Broken("prps", f"request {rec.rq} begins at {mapping.dma[0][0]:#x}, and its PRP1 is {rec.prp1:#x}")
    starts = [addr for addr, _ in mapping.dma[1:]] + ([rec.prp2] if rec.prps == _IN_COMMAND else [])
    for addr in [addr for addr in starts if addr % PAGE_SIZE][:1]:
        yield Broken("prps", f"request {rec.rq} has a PRP at {addr:#x}, which is no page's start")
    listed = _PRP_BYTES * (want - 1) if want > _IN_COMMAND else 0
    if rec.descriptor_bytes < listed:
        yield Broken("prps", f"request {rec.rq} has lists of {rec.descriptor_bytes} bytes for {listed} bytes of PRPs")
