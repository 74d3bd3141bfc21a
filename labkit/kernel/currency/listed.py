"""Memory that no IO has to pin: registered once for all (io_uring), or the kernel's own (KVEC) (ITER-2, REG-4)."""

from typing import NamedTuple

from labkit.kernel.block.bio import BIO_MAX_VECS
from labkit.kernel.currency.fill import unaligned
from labkit.kernel.currency.ops import Currency, Hold, Kiocb, Released, wipe
from labkit.kernel.version import KERNELS, NEWEST
from labkit.scatter.bio_vec import BIO_VEC_BYTES, BioVecs
from labkit.scatter.payload import Payload, Range, cut
from labkit.scatter.phyr import PHYR_BYTES, Phyrs

_LISTED = object()


class Region(NamedTuple):
    """`phyrs` are the memory at `addr`, an address of user or kernel; `token`: the pin of a registration, or 0.

    `table`: the vectors that a registration keeps where pages flow (R17). `indexed`: an IO has it by its index alone,
    and pins memory at its address as any other (REG-4).
    """

    addr: int
    phyrs: Phyrs
    token: int = 0
    table: tuple[Range, ...] = ()
    indexed: bool = False


class ListedCurrency:
    """Another currency, for all memory but what is listed here: of that an IO takes a part by arithmetic alone."""

    per_bio: bool

    def __init__(self, inner: Currency) -> None:
        """Carry what is listed in the type that `inner` does: phyrs, or bio_vecs."""
        self.inner, self.name, self.policy, self.per_bio = inner, inner.name, inner.policy, inner.per_bio
        self._looks = inner.name != "page" or getattr(inner, "rules", KERNELS[NEWEST]).aligned == "extract"
        self.regions: dict[tuple[int, int], Region] = {}
        """By number of the address space, and address."""

    def pin(self, iocb: Kiocb, start: int, nbytes: int | None = None) -> Hold:
        """Take a part of what is listed, and count nothing; or let `inner` pin.

        Errors: `inner`; and EINVAL for a part that begins off the alignment, where the kernel looks here (BIO-5).
        """
        addr, left = iocb.at(start)
        region = self._of(iocb, addr, left)
        self.policy = self.inner.policy if region is None else "none"
        if region is None:
            return self.inner.pin(iocb, start, nbytes)
        if self._looks and addr & iocb.limits.dma_alignment:
            raise unaligned(iocb.call, addr, left, iocb.limits.dma_alignment)
        left = min(left, nbytes or left)
        payload = self._part(region, addr - region.addr, left)
        now, vecs = iocb.mm.frames.now(), payload.vecs
        token = iocb.mm.ledger.pin(iocb.io, now, "none", vecs, iocb.mm.task, per_bio=self.per_bio)
        table = len(vecs) * (PHYR_BYTES if self.inner.name == "phyr" else BIO_VEC_BYTES)
        return Hold(payload, payload.nbytes, token, _LISTED, vecs, 0, 0, 0, 0 if region.table else table)

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """Let go of nothing: the registration stays, and the kernel's own memory was never pinned (MM-25)."""
        if hold.handle is not _LISTED:
            return self.inner.unpin(iocb, hold)
        iocb.mm.ledger.unpin(hold.token)
        return Released(0, 0)

    def zero(self, iocb: Kiocb, start: int, nbytes: int, pinned: Payload | None) -> int:
        """Write zeros over what is listed, or let `inner` do it."""
        addr, left = iocb.at(start)
        region = self._of(iocb, addr, min(left, nbytes))
        if region is None or pinned is not None:
            return self.inner.zero(iocb, start, nbytes, pinned) if region is None else wipe(iocb, pinned)
        for at, size in region.phyrs.slice(addr - region.addr, nbytes).vecs:
            iocb.mm.frames.wipe(at, size)
        return nbytes

    def slots(self, iocb: Kiocb, start: int) -> int:
        """Return 0 for a registered buffer, whose own table the bio takes (DIO-7); else as `inner`."""
        addr, left = iocb.at(start)
        region = self._of(iocb, addr, left)
        return self.inner.slots(iocb, start) if region is None or not region.table else 0

    def _part(self, region: Region, skip: int, nbytes: int) -> Payload:
        """Return bytes [skip, skip + nbytes) of what is listed, in the type that flows."""
        if self.inner.name == "phyr":
            return region.phyrs.slice(skip, nbytes)
        if region.table:
            return BioVecs.of(cut(region.table, skip, nbytes))
        return BioVecs.of(region.phyrs.slice(skip, nbytes).vecs[:BIO_MAX_VECS])

    def _of(self, iocb: Kiocb, addr: int, nbytes: int) -> Region | None:
        """Return what is listed of [addr, addr + nbytes) for `iocb`."""
        region = self.find(iocb.mm.task, addr, nbytes)
        return None if region is not None and region.indexed and iocb.buf_index is None else region

    def find(self, task: int, addr: int, nbytes: int) -> Region | None:
        """Return what is listed of [addr, addr + nbytes) of address space `task`, if that is all of it."""
        for (owner, start), region in self.regions.items():
            if owner == task and start <= addr and addr + nbytes <= start + region.phyrs.nbytes:
                return region
        return None
