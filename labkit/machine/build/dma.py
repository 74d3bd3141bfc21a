"""How a device's memory gets its addresses, and the bus that understands them: the DMA side of any PCI device."""

import errno
from typing import NamedTuple

from labkit.errors import BadInput, SyscallError
from labkit.hardware.device import Bus
from labkit.hardware.gpu import Bar
from labkit.hardware.iommu import Iommu
from labkit.hardware.pcie import PcieBus, RootComplex
from labkit.hardware.xen import MachineBus, P2m
from labkit.kernel.dma.direct import DirectMap
from labkit.kernel.dma.iommu import IommuMap
from labkit.kernel.dma.ops import DmaDevice, DmaMapOps
from labkit.kernel.dma.p2pdma import PciP2pDma
from labkit.kernel.dma.swiotlb import IO_TLB_DEFAULT_SIZE, IO_TLB_MIN_BYTES, SEGMENT_BYTES, SwioTlb
from labkit.kernel.dma.xen import XenMap
from labkit.machine.build.board import DATA, Board
from labkit.units import MAX_PAGE_ORDER, PAGE_SIZE, human_bytes

DMA32 = 1 << 32
"""Where the pool ends: below what any device with 32 bits reaches."""
_BLOCK = PAGE_SIZE << MAX_PAGE_ORDER
_SHARE = 16


class Attached(NamedTuple):
    """A device's way to memory."""

    ops: DmaMapOps
    bus: PcieBus
    peers: PciP2pDma
    iommu: Iommu | None = None
    swiotlb: SwioTlb | None = None


def attach(board: Board, dev: DmaDevice) -> Attached:
    """Return how `dev` reaches memory on `board`, by the scenario's backend, its mask, and the rules of its kernel.

    Raises BadInput where there is no memory for a pool.
    """
    scenario, tree = board.scenario, board.pcie
    tree.client.name = scenario.device
    peers = PciP2pDma(tree)
    p2m = P2m(ranges=board.ram.backed, seed=scenario.seed) if scenario.backend == "xen" else None
    memory: Bus = board.ram if p2m is None else MachineBus(board.ram, p2m)
    root = RootComplex(tree, memory) if scenario.route == "none" else memory
    if scenario.backend == "iommu":
        return _behind_iommu(board, dev, root, peers)
    swiotlb = _pool(board) if scenario.backend != "direct" or _limited(board, dev) else None
    if p2m is None:
        ops: DmaMapOps = DirectMap(dev, swiotlb, force=scenario.backend == "swiotlb")
    else:
        for block in swiotlb.segments if swiotlb else ():
            p2m.exchange(block, SEGMENT_BYTES)
        ops = XenMap(DirectMap(dev), p2m, swiotlb)
    return Attached(ops, PcieBus(tree, root, board.ram, dev.mask, speed=_speed()), peers, swiotlb=swiotlb)


def _behind_iommu(board: Board, dev: DmaDevice, root: Bus, peers: PciP2pDma) -> Attached:
    """Return the way through an IOMMU: BARs that are plugged in later keep their addresses on the bus (IOVA-2)."""
    iommu = Iommu(root)
    ops = IommuMap(
        iommu, dev, board.clock.later, lambda syncs: board.emit(("IotlbFlush", board.clock.now, 0, syncs)),
        strict=board.scenario.iommu == "strict", destroy_syncs=board.rules.iova_destroy_syncs,
        swiotlb=_pool(board) if dev.untrusted else None,
    )  # fmt: skip
    for node in board.pcie.bars:
        if node.bar:
            ops.iovas.reserve(node.bar.start + node.bar.offset, node.bar.nbytes)
    board.pcie.watchers.append(ops.iovas.reserve)
    return Attached(ops, PcieBus(board.pcie, iommu, board.ram, dev.mask, iommu, _speed()), peers, iommu)


def _speed() -> Bar:
    return Bar.load(DATA / "gpu.toml")


def _limited(board: Board, dev: DmaDevice) -> bool:
    """Return whether RAM has addresses that the device cannot put on the bus (dma_addressing_limited)."""
    return sum(board.ram.backed[-1]) - 1 > dev.mask


def _pool(board: Board) -> SwioTlb:
    """Set bounce buffers aside below 4 GiB: 64 MiB, less on a small machine (SWI-1; how much less is ours)."""
    nbytes = max(IO_TLB_MIN_BYTES, min(IO_TLB_DEFAULT_SIZE, board.scenario.ram // _SHARE // _BLOCK * _BLOCK))
    blocks: list[int] = []
    order = min(MAX_PAGE_ORDER, (nbytes // PAGE_SIZE - 1).bit_length())
    try:
        while len(blocks) * SEGMENT_BYTES < nbytes:
            start = board.alloc(order, DMA32)
            blocks += range(start, start + (PAGE_SIZE << order), SEGMENT_BYTES)
    except SyscallError as full:
        what = f"a pool of {human_bytes(nbytes)}"
        raise BadInput(
            "swiotlb", what, "does not fit into RAM below 4 GiB (SWI-1)", full.errno or errno.ENOMEM
        ) from None
    return SwioTlb(board.ram, blocks, board.emit, lambda: board.clock.now, stride=board.rules.swiotlb_stride)
