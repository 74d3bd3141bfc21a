"""Whether a piece of a bio may join a request, and which side of it: blk-merge.c (MERGE-1..4, R14)."""

from typing import Literal

from labkit.kernel.block.bio import NOMERGE_FLAGS, Bio, Op
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.split import Piece, max_sectors_at
from labkit.kernel.drivers.ops import Request
from labkit.scatter.payload import Range
from labkit.units import Sector

Side = Literal["back", "front"]


def blk_attempt_bio_merge(
    rq: Request, bio: Bio, piece: Piece, sector: Sector, limits: QueueLimits
) -> tuple[Side, int] | None:
    """Return the side of `rq` that `piece` of `bio` at `sector` joins, and the segments it adds; None if it may not.

    A request that it would make too large, or too many segments, takes nobody any more (req_set_nomerge).
    """
    if rq.nomerge or bio.opf & NOMERGE_FLAGS or not _alike(rq, bio):
        return None
    if rq.sector + (rq.nbytes >> 9) == sector:
        side: Side = "back"
        gap = _will_gap(rq.first_vec, rq.last_vec, piece.vecs[0], limits)
    elif sector + (piece.nbytes >> 9) == rq.sector:
        side = "front"
        gap = _will_gap(piece.vecs[0], piece.vecs[-1], rq.first_vec, limits)
    else:
        return None
    if gap:
        return None
    most = max_sectors_at(limits, rq.sector if side == "back" else sector, atomic=_atomic(rq))
    if (rq.nbytes + piece.nbytes) >> 9 > most or rq.segments + piece.segments > limits.max_segments:
        rq.nomerge = True
        return None
    return side, piece.segments


def _will_gap(first: Range, end: Range, following: Range, limits: QueueLimits) -> bool:
    """Return whether `following` behind `end` leaves a gap that the device cannot skip (MERGE-4).

    `first`: where the earlier part begins, which must be on the boundary. Memory that goes on inside one window of
    the segment boundary leaves none (MERGE-6).
    """
    mask, window = limits.virt_boundary_mask, limits.seg_boundary_mask
    if not mask:
        return False
    if first[0] & mask:
        return True
    reach = end[0] + end[1]
    if reach == following[0] and end[0] | window == sum(following) - 1 | window:
        return False
    return bool((reach | following[0]) & mask)


def attempt_rq_merge(rq: Request, following: Request, limits: QueueLimits) -> bool:
    """Return whether `following` may join `rq` behind its end (MERGE-5: after a merge, with the neighbour)."""
    if rq.nomerge or following.nomerge or not _alike(rq, following):
        return False
    if rq.sector + (rq.nbytes >> 9) != following.sector:
        return False
    if _will_gap(rq.first_vec, rq.last_vec, following.first_vec, limits):
        return False
    if (rq.nbytes + following.nbytes) >> 9 > max_sectors_at(limits, rq.sector, atomic=_atomic(rq)):
        return False
    return rq.segments + following.segments <= limits.max_segments


def _alike(rq: Request, other: Request | Bio) -> bool:
    """Return whether both do the same to the same class of memory, atomic or not (MERGE-2, blk_rq_merge_ok)."""
    return rq.write == other.write and rq.cls == other.cls and not (rq.opf ^ other.opf) & Op.ATOMIC


def _atomic(rq: Request) -> bool:
    return bool(rq.opf & Op.ATOMIC)
