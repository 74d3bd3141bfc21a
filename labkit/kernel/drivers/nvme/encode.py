"""How a command tells where its memory is: PRPs, one descriptor, or a list of them (nvme_map_data, NVME-4).

The driver and a prediction go through the same `map_data`.
"""

import errno
from collections.abc import Sequence
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.hardware.nvme.spec import SGL_BYTES
from labkit.kernel.drivers.nvme.prp import prp_entries, prp_pieces
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.rq_map import DmaMapping, RequestMaps, gap_mask
from labkit.kernel.version import Rules
from labkit.scatter.payload import Range
from labkit.units import PAGE_SIZE

NVME_CTRL_PAGE_SIZE = PAGE_SIZE
_LOW = NVME_CTRL_PAGE_SIZE - 1
_MOST = NVME_CTRL_PAGE_SIZE // SGL_BYTES
"""Descriptors of a list at most: a page of them (NVME-7)."""


class DataPointer(NamedTuple):
    """What a command says of its memory: `prps`, or the (bus address, bytes) of SGL descriptors in `sgl`."""

    encoding: str
    """prp, sgl1 (one descriptor, in the command) or sgl (a list)."""
    prps: Sequence[int] = ()
    sgl: Sequence[Range] = ()
    room: int = 0
    """Descriptors that memory is taken for: more than there are, where some have been joined."""

    def pieces(self, nbytes: int) -> list[Range]:
        """Return the (bus address, bytes) of each PRP or descriptor, as a controller uses them for `nbytes`."""
        return prp_pieces(self.prps, nbytes) if self.prps else list(self.sgl)


NO_DATA = DataPointer("prp")
"""What a command says that moves nothing."""


class Encoder(NamedTuple):
    """What decides how a driver tells a controller of memory."""

    rules: Rules
    threshold: int
    """nvme.sgl_threshold: from which average segment on SGLs are used, in bytes; 0 for never."""
    sgl: bool
    """Whether the controller takes SGLs."""

    def simple(self, rq: Request) -> str:
        """Return the encoding of one segment that needs no list; "" where the general way is to be gone (NVME-4).

        With sgl_threshold=0 kernels before 6.18 have a long one in a PRP list.
        """
        if rq.segments != 1 or rq.cls.kind == "mmio":
            return ""
        if (rq.first_vec[0] & _LOW) + rq.nbytes <= 2 * NVME_CTRL_PAGE_SIZE:
            return "prp"
        usable = self.sgl and (self.threshold or self.two_step(rq))
        return "sgl1" if usable else ""

    def two_step(self, rq: Request) -> bool:
        """Return whether `rq` is walked as physical ranges: since 6.18 (LAND-4), and whenever no struct page flows."""
        return self.rules.two_step or not rq.conversions

    def general(self, rq: Request, found: DmaMapping, *, sg: bool) -> str:
        """Return the encoding of `rq` as it was mapped, `sg`: by way of a scatterlist (NVME-4, NVME-7)."""
        gaps = self.rules.nvme_sgl_gaps and gap_mask(rq.vecs) & _LOW
        if not self.sgl or not (gaps or 0 < self.threshold <= self._average(rq, found, sg=sg)):
            return "prp"
        one = len(found.dma) == 1 if sg else rq.segments == 1 or found.coalesced
        return "sgl1" if one else "sgl"

    def _average(self, rq: Request, found: DmaMapping, *, sg: bool) -> int:
        """Return the bytes of an average segment, rounded up (nvme_pci_avg_seg_size)."""
        if not sg:
            segments = 1 if found.coalesced else rq.segments
        else:
            segments = len(found.dma) if self.rules.nvme_average == "mapped" else rq.segments
        return -(-rq.nbytes // segments)


def map_data(rq: Request, maps: RequestMaps, ways: Encoder) -> tuple[int, DataPointer]:
    """Map the memory of `rq`; return the ns that it takes, and what the command says of it (nvme_map_data).

    Raises SyscallError as RequestMaps.map does, EIO for memory that cannot be told (NVME-6); nothing is mapped then.
    """
    simple = ways.simple(rq)
    sg = not simple and not ways.two_step(rq)
    took = maps.map(rq, sg=sg)
    try:
        return took, _pointer(rq, maps.held[rq.rq], simple, ways, sg=sg)
    except BaseException:
        maps.unmap(rq)
        raise


def _pointer(rq: Request, found: DmaMapping, simple: str, ways: Encoder, *, sg: bool) -> DataPointer:
    dma = found.dma
    encoding = simple or ways.general(rq, found, sg=sg)
    if encoding == "prp":
        return DataPointer("prp", prps=prp_entries(dma))
    if encoding == "sgl1" and len(dma) == 1:
        return DataPointer("sgl1", sgl=dma)
    room = max(len(dma), 0 if sg else rq.segments)
    if room > _MOST:
        raise SyscallError("nvme", f"{room} segments", f"are more than the {_MOST} of a list (NVME-7)", errno.EIO)
    return DataPointer("sgl", sgl=dma, room=room)
