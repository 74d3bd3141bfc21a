"""What the NVMe driver of a capture makes of its requests: the driver's own map and encoding, without a controller."""

from typing import Any, Literal, NamedTuple, cast

from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.iommu import Iommu
from labkit.hardware.pcie import Pcie
from labkit.hardware.ram import RAM
from labkit.kernel.block.limits import MAX_SEGMENT_SIZE
from labkit.kernel.dma.direct import DirectMap
from labkit.kernel.dma.iommu import IommuMap
from labkit.kernel.dma.ops import DmaDevice, DmaMapOps
from labkit.kernel.dma.p2pdma import P2pDma, PciP2pDma
from labkit.kernel.dma.swiotlb import IO_TLB_DEFAULT_SIZE, SEGMENT_BYTES, SwioTlb
from labkit.kernel.drivers.nvme.encode import NVME_CTRL_PAGE_SIZE, Encoder, map_data
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.rq_map import RequestMaps, gap_mask
from labkit.trace.tracer import Emit
from labkit.witness.capture import Capture
from labkit.witness.files import SOMEWHERE
from labkit.witness.layout import PCI_HOLE


class NvmeCommand(NamedTuple):
    """One command: block, bytes, encoding (prp, sgl1, sgl), and the (device address or None, bytes) of each piece.

    `sure` says how much of the addresses is certain: `all`; `layout`, how deep each is in its page, and that it follows
    the one before where it does; or `depth` alone. `segments` and `gap` (NVME-4) are the request's.
    """

    slba: int
    nbytes: int
    encoding: str
    addrs: list[list[Any]]
    sure: Literal["all", "layout", "depth"]
    segments: int
    gap: int


class Commands:
    """The maps and the encoder of one drive."""

    def __init__(self, capture: Capture, env: Clock, cpu: Cpu, emit: Emit) -> None:
        """Map as the machine of `capture` did. Raises BadInput for one that cannot be."""
        rules, _ = capture.rules
        self._capture, self._env, self._cpu, self._emit = capture, env, cpu, emit
        self._ways = Encoder(rules, capture.sgl_threshold, sgl=True)
        self._bounced, self._translated = capture.mode == "swiotlb", bool(capture.behind_iommu)
        self.begin()

    def begin(self) -> None:
        """Begin anew: nothing is mapped, no address was ever given out, and there are no commands."""
        backend = _backend(self._capture, self._env, self._emit)
        self.maps = RequestMaps(
            self._env, self._cpu, backend, self._emit, _peers(self._capture), rules=self._ways.rules
        )
        self.rows: list[NvmeCommand] = []

    def setup(self, rq: Request) -> None:
        """Map `rq`, and keep its command. Raises SyscallError as the driver does."""
        _, pointer = map_data(rq, self.maps, self._ways)
        pieces = [[addr if addr < SOMEWHERE else None, n] for addr, n in pointer.pieces(rq.nbytes)]
        gaps = gap_mask(rq.vecs)
        self.rows.append(NvmeCommand(
            rq.sector, rq.nbytes, pointer.encoding, pieces, self._sure(self.maps.held[rq.rq].how), rq.segments,
            (gaps & -gaps).bit_length(),
        ))  # fmt: skip

    def end(self, rq: Request) -> None:
        """Unmap `rq`, if it is mapped."""
        self.maps.unmap(rq)

    def _sure(self, how: str) -> Literal["all", "layout", "depth"]:
        """Return what is certain of the addresses of a request that was mapped as `how` says."""
        if how == "bus" or not (self._translated or self._bounced):
            return "all"
        return "layout" if how in {"iova", "sg"} and self._translated else "depth"


class _Elsewhere:
    """Memory of which nobody asks for the bytes."""

    def view(self, _addr: int, nbytes: int) -> memoryview:
        """Return as many bytes."""
        return memoryview(bytearray(nbytes))

    def views(self, addr: int, nbytes: int, write: bool = False) -> tuple[memoryview, ...]:  # noqa: ARG002
        """Return as many bytes."""
        return (self.view(addr, nbytes),)


_ELSEWHERE = cast("RAM", _Elsewhere())
_POOL = range(1 << 30, (1 << 30) + IO_TLB_DEFAULT_SIZE, SEGMENT_BYTES)
"""Where the bounces are: anywhere."""


def _backend(capture: Capture, env: Clock, emit: Emit) -> DmaMapOps:
    """Return how memory gets its device addresses."""
    rules, _ = capture.rules
    dev = DmaDevice(min_align_mask=NVME_CTRL_PAGE_SIZE - 1, max_segment_size=MAX_SEGMENT_SIZE)
    if mode := capture.behind_iommu:
        syncs = rules.iova_destroy_syncs
        iommu = Iommu(_ELSEWHERE)
        return IommuMap(iommu, dev, env.later, lambda _n: None, strict=mode == "strict", destroy_syncs=syncs)
    if capture.mode == "swiotlb":
        pool = SwioTlb(_ELSEWHERE, _POOL, emit, lambda: 0, stride=rules.swiotlb_stride)
        return DirectMap(dev, pool, force=True)
    return DirectMap(dev)


def _peers(capture: Capture) -> P2pDma | None:
    """Return the tree that the drive stands in, with the memory of its peer; None where there is no peer."""
    if capture.mode != "p2p":
        return None
    tree = Pcie.of(capture.route)
    tree.plug(capture.provider, PCI_HOLE[0], PCI_HOLE[1] - PCI_HOLE[0])
    return PciP2pDma(tree)
