"""The memory of a request becomes addresses for its device: blk-mq-dma.c, and the scatterlist that it replaces.

One way in for every driver: it says how its kernel goes (a scatterlist, or ranges one by one), and pays in ns.
"""

import errno
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from labkit.errors import InvariantError, LabkitError, SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.kernel.dma.ops import IOVA_STATE_BYTES, NO_ATTRS, NOTHING, Attrs, DmaDir, DmaMapOps, IovaState, Undone
from labkit.kernel.dma.p2pdma import MapType, P2pDma
from labkit.kernel.drivers.ops import Request
from labkit.kernel.version import NEWEST, Rules, rules_of
from labkit.scatter.memory_class import RAM
from labkit.scatter.payload import Range, Ranges, join, run_length
from labkit.scatter.scatterlist import table_bytes
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SIZE

DMA_VEC_BYTES = 16
"""What is kept of each range that is mapped for itself: {addr, len} (NVME-8)."""
RULES = rules_of(NEWEST)[0]
"""Of the newest kernel."""


class DmaMapping(NamedTuple):
    """One request's memory as its device sees it, and what making it so took."""

    dma: Ranges
    """(bus address, bytes), in the order of the bytes."""
    phys: Ranges
    """The same memory as physical ranges, joined across vectors where they touch (BLKDMA-1)."""
    how: str
    """phys: range by range; iova: one range of device addresses (BLKDMA-3); sg: a scatterlist (SG-1); bus: a peer's
    own addresses (BLKDMA-2); premapped: mapped long before (DMABUF-1)."""
    maps: int = 0
    """Mapping operations."""
    ioptes: int = 0
    """IOMMU page table entries written."""
    descriptor_bytes: int = 0
    """What is kept in memory for the unmap."""
    bounced: int = 0
    """Bytes copied into bounce buffers."""
    state: IovaState | None = None
    attrs: Attrs = NO_ATTRS

    @property
    def coalesced(self) -> bool:
        """Whether the device sees one range, whatever the memory is (blk_rq_dma_map_coalesce)."""
        return self.how == "iova"


class RequestMaps:
    """Every request of one driver that is mapped now."""

    def __init__(
        self, env: Clock, cpu: Cpu, ops: DmaMapOps, emit: Emit, peers: P2pDma | None = None, *, rules: Rules = RULES
    ) -> None:
        """Map by `ops`; `peers` knows how memory of other devices is reached, None where nobody asks."""
        self.env, self.cpu, self.ops, self._emit, self.peers, self.rules = env, cpu, ops, emit, peers, rules
        self.held: dict[int, DmaMapping] = {}
        """By number of the request."""
        self._stale: list[DmaMapping] = []
        self._flushes = 0

    def map(self, rq: Request, *, sg: bool = False) -> int:
        """Map all of `rq`; return the ns that it takes. `sg`: by way of a scatterlist, as today's drivers do (SG-1).

        Raises SyscallError: EINVAL for a peer that cannot be reached (P2P-2), EREMOTEIO where a scatterlist says so
        (DMA-2), ENOMEM where no address is left now (BLKDMA-4: ask again). Nothing is mapped then.
        """
        ops = self.ops
        if rq.rq in self.held:
            raise InvariantError("dma", f"request {rq.rq}", "is mapped already", errno.EINVAL)
        before = ops.ioptes, ops.bounced
        found = self._premapped(rq) if rq.cls.kind == "dma" else self._mapping(rq, sg=sg)
        ioptes, bounced = ops.ioptes - before[0], ops.bounced - before[1]
        if found.ioptes != ioptes or found.bounced != bounced:
            found = found._replace(ioptes=ioptes, bounced=bounced)
        if rq.rq < 0:  # a registration: IOs find their part in it (DMABUF-1)
            found = found._replace(descriptor_bytes=max(found.descriptor_bytes, DMA_VEC_BYTES * len(found.dma)))
        self.held[rq.rq] = found
        read = rq.conversions * (2 if sg else 1)
        self._emit((
            "DmaMap", self.env.now, rq.io, rq.rq, found.dma, found.phys, found.maps, read, read, found.descriptor_bytes,
            found.how, found.ioptes, found.bounced,
        ))  # fmt: skip
        return self._cost(found, sg=sg)

    def unmap(self, rq: Request) -> int:
        """Take the mapping of `rq` back, if it has one; return the ns that it takes. In its own order, pieces first."""
        found = self.held.get(rq.rq)
        if found is None:
            return 0
        undone = self._undo(rq, found)
        del self.held[rq.rq]
        if undone.stale:
            self._stale = self.stale
            self._stale.append(found)
            self._flushes = self.ops.flushes
        self._emit(("DmaUnmap", self.env.now, rq.io, rq.rq, undone.syncs, undone.stale, undone.bounced))
        if not self.ops.need_unmap:
            return 0
        lazy = self.cpu.lazy_unmap if undone.stale else 0
        return undone.syncs * self.cpu.iotlb_sync + lazy + undone.bounced * self.cpu.copy_page // PAGE_SIZE

    @property
    def stale(self) -> list[DmaMapping]:
        """What is unmapped, and reachable for the device until the next flush (IOVA-7), oldest first."""
        return self._stale if self._flushes == self.ops.flushes else []

    def _mapping(self, rq: Request, *, sg: bool) -> DmaMapping:
        phys = self._ranges(rq, self.ops.dev.max_segment_size, sg=sg)
        if rq.cls.kind == "ram":
            phys = self.ops.segments(phys)
            attrs = NO_ATTRS if rq.cls == RAM else Attrs.MMIO  # without struct pages, and not mapped for the kernel
        elif rq.cls.kind == "foreign":
            attrs = Attrs.MACHINE
        else:
            route = self._route(rq, sg=sg)
            if route is MapType.BUS_ADDR:
                return DmaMapping(self._on_bus(rq, phys), phys, "bus")
            attrs = Attrs.MMIO
        if sg:
            dma = self.ops.map_sg(phys, direction(rq), attrs)
            return DmaMapping(dma, phys, "sg", 1, descriptor_bytes=table_bytes(len(phys)), attrs=attrs)
        if (len(rq.vecs) > 1 or len(phys) > 1) and (found := self._as_one(rq, phys, attrs)) is not None:
            return found
        return self._one_by_one(rq, phys, attrs)

    def _ranges(self, rq: Request, most: int, *, sg: bool) -> Ranges:
        """Return the memory of `rq` as ranges of at most `most` bytes, joined where they touch (BLKDMA-1).

        A scatterlist of an older kernel joins only where one bio ends and the next begins (SG-1).
        """
        vecs, boundary = rq.vecs, self.ops.dev.seg_boundary_mask
        if sg and not self.rules.two_step and len(vecs) > len(rq.parts):
            return join(segments((vec,), most, boundary) for vec in bio_joints(rq.parts, most))
        return segments(vecs, most, boundary)

    def _premapped(self, rq: Request) -> DmaMapping:
        """Return what was registered: device addresses that came down with the bio (DMABUF-1)."""
        dma = rq.vecs if len(rq.vecs) == 1 else run_length(rq.vecs)
        return DmaMapping(dma, self._behind(dma), "premapped")

    def _behind(self, dma: Ranges) -> Ranges:
        """Return the memory behind `dma`: a peer's own addresses are known to its registration alone."""
        peers = [each for number, each in self.held.items() if number < 0 and each.how == "bus"]
        if not peers:
            return self.ops.phys_of(dma)
        parts: list[Ranges] = []
        for addr, nbytes in dma:
            own = (each for each in peers if any(at <= addr < at + size for at, size in each.dma))
            offset = next((each.dma[0][0] - each.phys[0][0] for each in own), None)
            parts.append(self.ops.phys_of(((addr, nbytes),)) if offset is None else ((addr - offset, nbytes),))
        return join(parts)

    def _route(self, rq: Request, *, sg: bool) -> MapType:
        """Return how the peer's memory is reached. Raises EINVAL, or EREMOTEIO of a scatterlist, where it is not."""
        route = self.peers.map_type(rq.cls.provider) if self.peers else MapType.THRU_HOST_BRIDGE
        if route is MapType.NOT_SUPPORTED:
            code = errno.EREMOTEIO if sg else errno.EINVAL
            raise SyscallError("p2pdma", f"memory of {rq.cls.provider}", "cannot be reached from here (P2P-2)", code)
        return route

    def _on_bus(self, rq: Request, phys: Ranges) -> Ranges:
        """Return the bus addresses of a peer's memory (P2P-4); EIO beyond the device's mask (D-9; no kernel looks)."""
        offset, mask = self.peers.bus_offset(rq.cls.provider) if self.peers else 0, self.ops.dev.mask
        bus = tuple((addr + offset, n) for addr, n in phys)
        far = next((each for each in bus if sum(each) - 1 > mask), None)
        if far is not None:
            rule = f"is beyond the {mask.bit_length()} bits of the device's mask, and a peer's memory is never bounced"
            raise SyscallError("p2pdma", f"{far[0]:#x}+{far[1]}", f"{rule} (SWI-4, D-9)", errno.EIO)
        return bus

    def _as_one(self, rq: Request, phys: Ranges, attrs: Attrs) -> DmaMapping | None:
        """Return one range of device addresses for all of it, or None where a joint or the device forbids (BLKDMA-3).

        Before requests knew of gaps the queue's boundary let none in but where memory touches (NVME-2).
        A failure midway frees what was linked, and is the request's (BLKDMA-4).
        """
        ops, done = self.ops, 0
        joints = rq.vecs if self.rules.nvme_sgl_gaps else phys
        if not ops.merge_boundary or gap_mask(joints) & ops.merge_boundary:
            return None
        if rq.nbytes > ops.dev.max_segment_size:  # what was cut is one range for the device, and links as it lies
            phys = run_length(phys)
        state = ops.iova_try_alloc(phys[0][0], rq.nbytes)
        if state is None:
            return None
        try:
            for addr, nbytes in phys:
                ops.iova_link(state, done, addr, nbytes, attrs, direction(rq))
                done += nbytes
            ops.iova_sync(state)
        except BaseException:
            ops.iova_destroy(state, done)
            raise
        return DmaMapping(
            ((state.addr, rq.nbytes),), phys, "iova", len(phys), 0, IOVA_STATE_BYTES, state=state, attrs=attrs
        )

    def _one_by_one(self, rq: Request, phys: Ranges, attrs: Attrs) -> DmaMapping:
        """Map range by range (dma_map_phys); a failure takes the ones before it back (DMA-2)."""
        ops, way, dma = self.ops, direction(rq), list[Range]()
        ioptes, bounced = ops.ioptes, ops.bounced
        try:
            for addr, nbytes in phys:
                dma.append((ops.map_phys(addr, nbytes, way, attrs), nbytes))
        except LabkitError:
            for addr, nbytes in reversed(dma):
                ops.unmap_phys(addr, nbytes, way, attrs | Attrs.SKIP_CPU_SYNC)
            raise
        saved = DMA_VEC_BYTES * len(dma) if ops.need_unmap and len(dma) > 1 else 0
        ranges = tuple(dma) if len(dma) == 1 else join([tuple(dma)])
        ioptes, bounced = ops.ioptes - ioptes, ops.bounced - bounced
        return DmaMapping(ranges, phys, "phys", len(dma), ioptes, saved, bounced, attrs=attrs)

    def _undo(self, rq: Request, found: DmaMapping) -> Undone:
        ops, way = self.ops, direction(rq)
        match found.how:
            case "bus" | "premapped":
                return NOTHING
            case "sg":
                return ops.unmap_sg(tuple(found.phys), tuple(found.dma), way)
            case "iova" if found.state is not None:
                return ops.iova_destroy(found.state, found.state.nbytes)
        if not ops.need_unmap:  # BLKDMA-5: direct, and nothing was bounced
            return NOTHING
        if len(found.dma) == 1:
            return ops.unmap_phys(*found.dma[0], way, found.attrs)
        undone = [ops.unmap_phys(addr, nbytes, way, found.attrs) for addr, nbytes in found.dma]
        each = list(zip(*undone, strict=True))
        return Undone(sum(each[0]), any(each[1]), sum(each[2]))

    def _cost(self, found: DmaMapping, *, sg: bool) -> int:
        """Return the ns of what was counted."""
        cpu = self.cpu
        allocs = 0 if not found.ioptes else found.maps if found.how == "phys" else 1
        listed = cpu.sg * len(found.phys) if sg else 0
        copied = cpu.swiotlb * found.maps + found.bounced * cpu.copy_page // PAGE_SIZE if found.bounced else 0
        return cpu.dma_map * found.maps + cpu.iova_alloc * allocs + cpu.iopte * found.ioptes + listed + copied


def direction(rq: Request) -> DmaDir:
    """Return which way the bytes of `rq` go (rq_dma_dir); both where it is a registration, below 0 (DMABUF-1)."""
    if rq.rq < 0:
        return DmaDir.BIDIRECTIONAL
    return DmaDir.TO_DEVICE if rq.write else DmaDir.FROM_DEVICE


def gap_mask(vecs: Ranges) -> int:
    """Return the low address bits in which any joint of `vecs` is not clean: 4096 and up where all lie on pages.

    The kernel looks at vectors, not at memory: a joint inside a folio counts too (NVME-4).
    """
    mask = 0
    for (addr, nbytes), (after, _) in pairwise(vecs):
        mask |= (addr + nbytes) | after
    return mask


def bio_joints(parts: Sequence[Ranges], most: int) -> list[Range]:
    """Return the vectors of all `parts`, joined where one part meets the next, up to `most` bytes (SG-1)."""
    out: list[Range] = []
    for part in parts:
        first, *rest = part
        if out and sum(out[-1]) == first[0] and out[-1][1] + first[1] <= most:
            out[-1] = (out[-1][0], out[-1][1] + first[1])
        else:
            out.append(first)
        out += rest
    return out


def segments(vecs: Ranges, most: int, boundary: int) -> Ranges:
    """Return `vecs` joined where they touch, each at most `most` bytes and across no multiple of `boundary` + 1.

    That is BLKDMA-1: vectors and bios are joined here, and not where segments were counted for the split.
    """
    if len(vecs) == 1 and vecs[0][1] <= most and (vecs[0][0] & boundary) + vecs[0][1] <= boundary + 1:
        return vecs
    joined = run_length(vecs)
    if all(nbytes <= most and (addr & boundary) + nbytes <= boundary + 1 for addr, nbytes in joined):
        return joined
    out: list[Range] = []
    for addr, nbytes in joined:
        at, end = addr, addr + nbytes
        while at < end:
            take = min(end - at, most, boundary + 1 - (at & boundary))
            out.append((at, take))
            at += take
    return join([tuple(out)])
