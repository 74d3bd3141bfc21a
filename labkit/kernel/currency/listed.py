"""Memory that no IO has to pin: registered once for all (io_uring), or the kernel's own (KVEC) (ITER-2, REG-4)."""

from typing import NamedTuple

from labkit.kernel.currency.ops import Currency, Hold, Kiocb, Released
from labkit.kernel.fs.bdev import BIO_MAX_VECS
from labkit.scatter.bio_vec import BIO_VEC_BYTES, BioVecs
from labkit.scatter.payload import Payload
from labkit.scatter.phyr import PHYR_BYTES, Phyrs

_LISTED = object()


class Region(NamedTuple):
    """`phyrs` are the memory at `addr`, an address of user or kernel; `token`: the pin of a registration, or 0."""

    addr: int
    phyrs: Phyrs
    token: int = 0


class ListedCurrency:
    """Another currency, for all memory but what is listed here: of that an IO takes a part by arithmetic alone."""

    per_bio: bool

    def __init__(self, inner: Currency) -> None:
        """Carry what is listed in the type that `inner` does: phyrs, or bio_vecs."""
        self.inner, self.name, self.policy, self.per_bio = inner, inner.name, inner.policy, inner.per_bio
        self.regions: dict[tuple[int, int], Region] = {}
        """By number of the address space, and address."""

    def pin(self, iocb: Kiocb, start: int) -> Hold:
        """Take a part of what is listed, and count nothing; or let `inner` pin. Errors: `inner`."""
        addr, nbytes = iocb.buf + start, iocb.nbytes - start
        region = self.find(iocb.mm.task, addr, nbytes)
        self.policy = self.inner.policy if region is None else "none"
        if region is None:
            return self.inner.pin(iocb, start)
        phyrs = region.phyrs.slice(addr - region.addr, nbytes)
        payload: Payload = phyrs
        if self.inner.name == "page":
            payload = BioVecs.of(phyrs.vecs[:BIO_MAX_VECS])
        now, vecs = iocb.mm.frames.now(), payload.vecs
        token = iocb.mm.ledger.pin(iocb.io, now, "none", vecs, iocb.mm.task, per_bio=self.per_bio)
        table = len(vecs) * (BIO_VEC_BYTES if self.inner.name == "page" else PHYR_BYTES)
        return Hold(payload, payload.nbytes, token, _LISTED, vecs, 0, 0, 0, table)

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """Let go of nothing: the registration stays, and the kernel's own memory was never pinned (MM-25)."""
        if hold.handle is not _LISTED:
            return self.inner.unpin(iocb, hold)
        iocb.mm.ledger.unpin(hold.token)
        return Released(0, 0)

    def find(self, task: int, addr: int, nbytes: int) -> Region | None:
        """Return what is listed of [addr, addr + nbytes) of address space `task`, if that is all of it."""
        for (owner, start), region in self.regions.items():
            if owner == task and start <= addr and addr + nbytes <= start + region.phyrs.nbytes:
                return region
        return None
