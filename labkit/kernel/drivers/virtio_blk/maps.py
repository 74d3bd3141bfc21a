"""How a virtqueue maps: every stretch for itself, header, status and table too; or not at all (VIO-3)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from labkit.errors import LabkitError
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.kernel.dma.ops import NO_ATTRS, Attrs, DmaDir, DmaMapOps, Undone
from labkit.kernel.dma.p2pdma import P2pDma
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.rq_map import RULES, DmaMapping, RequestMaps
from labkit.kernel.version import Rules
from labkit.scatter.memory_class import RAM
from labkit.scatter.payload import Ranges
from labkit.scatter.scatterlist import table_bytes
from labkit.trace.tracer import Emit


class Own(NamedTuple):
    """Memory of the driver that a request needs, beside its data."""

    addr: int
    """Physical; where it is mapped, the device's."""
    nbytes: int
    dir: DmaDir


class VringMaps(RequestMaps):
    """The requests of one virtqueue. `platform`: VIRTIO_F_ACCESS_PLATFORM, without which there is no DMA API."""

    def __init__(
        self, env: Clock, cpu: Cpu, ops: DmaMapOps, emit: Emit, peers: P2pDma | None = None, *, platform: bool,
        rules: Rules = RULES,
    ) -> None:  # fmt: skip
        """Map by `ops`, where `platform`; else addresses are those of the guest."""
        super().__init__(env, cpu, ops, emit, peers, rules=rules)
        self.platform = platform
        self.own: dict[int, list[Own]] = {}
        """By number of the request: header, status, and table if there is one; see Own."""
        self.fill: Callable[[Request, Sequence[Own], Ranges], None] = _nobody
        """Called with header and status, and the data, as the device has them, before the table is mapped: a bounce
        of it is a copy (SWI-3)."""

    def count(self, rq: Request) -> int:
        """Return how many stretches the data of `rq` is for the ring, at most."""
        return len(self._stretches(rq, sg=rq.conversions > 0)) if rq.vecs else 0

    def _stretches(self, rq: Request, *, sg: bool) -> Ranges:
        most = min(self.ops.dev.max_segment_size, self.ops.max_mapping_size)  # virtio_max_dma_size
        ranges = self._ranges(rq, most, sg=sg)
        return self.ops.segments(ranges) if self.platform and rq.cls.kind == "ram" else ranges

    def _mapping(self, rq: Request, *, sg: bool) -> DmaMapping:
        """Map the data one by one, whatever could be one range for the device."""
        return self._with_own(rq, partial(self._data, rq, sg=sg))

    def _premapped(self, rq: Request) -> DmaMapping:
        """Map the driver's own memory alone: the data is."""
        return self._with_own(rq, partial(super()._premapped, rq))

    def _with_own(self, rq: Request, data: Callable[[], DmaMapping]) -> DmaMapping:
        """Map header and status, what `data` maps, and the table as soon as it is filled in; all or nothing."""
        own, done, found = self.own.get(rq.rq, []), list[Own](), DmaMapping((), (), "phys")
        try:
            for each in own[:2]:
                done.append(self._one(each))
            found = data()
            if own:
                self.fill(rq, done, found.dma)
            for each in own[2:]:
                done.append(self._one(each))
        except LabkitError:
            if found.dma:
                super()._undo(rq, found._replace(attrs=found.attrs | Attrs.SKIP_CPU_SYNC))
            self._take_back(done, Attrs.SKIP_CPU_SYNC)
            raise
        if own:
            self.own[rq.rq] = done
        return found._replace(maps=found.maps + (len(own) if self.platform else 0))

    def _one(self, own: Own) -> Own:
        return own._replace(addr=self.ops.map_phys(*own)) if self.platform else own

    def _data(self, rq: Request, *, sg: bool) -> DmaMapping:
        if not rq.vecs:
            return DmaMapping((), (), "phys")
        if rq.cls != RAM and self.platform:
            return super()._mapping(rq, sg=sg)
        phys = self._stretches(rq, sg=sg)
        kept = table_bytes(len(phys)) if sg else 0
        if not self.platform:
            return DmaMapping(phys, phys, "phys", descriptor_bytes=kept)
        return self._one_by_one(rq, phys, NO_ATTRS)._replace(descriptor_bytes=kept)

    def _as_one(self, rq: Request, phys: Ranges, attrs: Attrs) -> None:  # noqa: ARG002 - as of any driver
        """Return None: no ring asks for one range of device addresses (VIO-3)."""
        return

    def _undo(self, rq: Request, found: DmaMapping) -> Undone:
        """Take the data back, and the driver's own memory, last first."""
        own = self.own.pop(rq.rq, [])
        if not self.platform:
            return Undone()
        data = super()._undo(rq, found) if found.dma else Undone()
        each = [data, *self._take_back(own, NO_ATTRS)]
        return Undone(sum(u.syncs for u in each), any(u.stale for u in each), sum(u.bounced for u in each))

    def _take_back(self, own: list[Own], attrs: Attrs) -> list[Undone]:
        if not self.platform:
            return []
        return [self.ops.unmap_phys(addr, nbytes, way, attrs) for addr, nbytes, way in reversed(own)]


def _nobody(_rq: Request, _own: Sequence[Own], _data: Ranges) -> None:
    """Stand in for a driver that has nothing to fill in."""
