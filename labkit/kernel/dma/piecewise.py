"""What every way to map without an IOMMU has in common: piece by piece, and no range of device addresses for all."""

import errno
from collections.abc import Sequence

from labkit.errors import InvariantError, LabkitError
from labkit.kernel.dma.ops import NO_ATTRS, Attrs, DmaDir, DmaMapOps, IovaState, Undone
from labkit.scatter.payload import Range, Ranges

SIZE_MAX = (1 << 64) - 1


class Piecewise:
    """The two-step form is not to be had (BLKDMA-3), no joint is bridged, and nothing is stale."""

    flushes = 0

    def iova_try_alloc(self, phys: int, nbytes: int) -> IovaState | None:  # noqa: ARG002 - of the protocol
        """Return None: there is no IOMMU."""
        return None

    def iova_link(
        self, state: IovaState, offset: int, phys: int, nbytes: int, attrs: Attrs = NO_ATTRS,  # noqa: ARG002 - of the protocol
        dir: DmaDir = DmaDir.BIDIRECTIONAL,  # noqa: A002, ARG002 - the same
    ) -> None:  # fmt: skip
        """Raise InvariantError EINVAL, as all that needs a state: none was given out."""
        raise _none(state)

    def iova_sync(self, state: IovaState) -> None:
        """Raise InvariantError EINVAL."""
        raise _none(state)

    def iova_unlink(self, state: IovaState, offset: int, nbytes: int) -> Undone:  # noqa: ARG002 - of the protocol
        """Raise InvariantError EINVAL."""
        raise _none(state)

    def iova_destroy(self, state: IovaState, mapped: int) -> Undone:  # noqa: ARG002 - of the protocol
        """Raise InvariantError EINVAL."""
        raise _none(state)

    def iova_free(self, state: IovaState) -> None:
        """Raise InvariantError EINVAL."""
        raise _none(state)

    def segments(self, ranges: Ranges) -> Ranges:
        """Return `ranges`: what touches for the kernel does so for the device."""
        return ranges

    @property
    def merge_boundary(self) -> int:
        """Nothing bridges a joint."""
        return 0


def map_each(ops: DmaMapOps, sg: Sequence[Range], dir: DmaDir, attrs: Attrs) -> tuple[Range, ...]:  # noqa: A002 - the kernel's name
    """Map each entry of `sg` for itself; a failure takes the ones before it back, in reverse (DMA-2)."""
    done: list[Range] = []
    try:
        for phys, nbytes in sg:
            done.append((ops.map_phys(phys, nbytes, dir, attrs), nbytes))
    except LabkitError:
        for addr, nbytes in reversed(done):
            ops.unmap_phys(addr, nbytes, dir, attrs | Attrs.SKIP_CPU_SYNC)
        raise
    return tuple(done)


def total(undone: Sequence[Undone]) -> Undone:
    """Return what several unmaps took together."""
    return Undone(sum(u.syncs for u in undone), any(u.stale for u in undone), sum(u.bounced for u in undone))


def _none(state: IovaState) -> InvariantError:
    return InvariantError("dma", f"{state.addr:#x}+{state.nbytes}", "was never handed out", errno.EINVAL)
