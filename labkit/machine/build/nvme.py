"""NVMe: flash, or what Optane is made of, behind the same controller and driver."""

from pathlib import Path

from labkit.hardware.media.flash import Flash
from labkit.hardware.media.xpoint import Xpoint
from labkit.hardware.nvme.controller import NvmeCtrl, Profile
from labkit.hardware.nvme.spec import CQE_BYTES, SQE_BYTES
from labkit.kernel.block.limits import MAX_SEGMENT_SIZE, nvme_limits
from labkit.kernel.dma.ops import DmaDevice
from labkit.kernel.dma.pool import DmaPool
from labkit.kernel.drivers.nvme.driver import NvmeDriver, Queues
from labkit.kernel.drivers.nvme.encode import NVME_CTRL_PAGE_SIZE, Encoder
from labkit.kernel.drivers.rq_map import RequestMaps
from labkit.machine.build.board import DATA, Board, Built
from labkit.machine.build.dma import Attached, attach
from labkit.machine.build.medium import medium_of
from labkit.units import PAGE_SHIFT, PAGE_SIZE, DmaAddr, PhysAddr

_POOL_ORDER = 10


def build_nvme(board: Board) -> Built:
    """Build a flash drive."""
    return _build(board, DATA / "nvme.toml", Flash)


def build_optane(board: Board) -> Built:
    """Build a drive of the Optane class."""
    return _build(board, DATA / "optane.toml", Xpoint)


def nvme_device(mask: int) -> DmaDevice:
    """Return what the DMA layer knows of a controller whose addresses have the bits of `mask` (NVME-1)."""
    return DmaDevice(mask=mask, min_align_mask=NVME_CTRL_PAGE_SIZE - 1, max_segment_size=MAX_SEGMENT_SIZE)


def _build(board: Board, path: Path, kind: type[Flash | Xpoint]) -> Built:
    scenario, clock = board.scenario, board.clock
    profile = Profile.load(path, scenario.profile)
    medium = medium_of(board, path, kind)
    attached = attach(board, nvme_device((1 << scenario.device_mask) - 1))
    ops, bus = attached.ops, attached.bus
    ctrl = NvmeCtrl(clock, bus, medium, profile, board.emit, bus.fills if bus.iommu else None, bus.peer_ns)
    maps = RequestMaps(clock, board.cpu, ops, board.emit, attached.peers, rules=board.rules)
    queues, pool = _shared(board, attached, profile.queue_depth)
    ways = Encoder(board.rules, scenario.sgl_threshold, bool(profile.sgl))
    driver = NvmeDriver(clock, board.cpu, board.ram, maps, ctrl, queues, pool, ways, board.emit)
    limits = nvme_limits(
        profile.mdts_bytes, depth=profile.queue_depth, rules=board.rules, sgl=ways.sgl,
        opt_mapping_size=ops.opt_mapping_size, max_mapping_size=ops.max_mapping_size,
        write_cache=medium.volatile,
    )  # fmt: skip
    return Built("nvme0n1", ctrl, limits, driver, ops, medium)


def _shared(board: Board, attached: Attached, depth: int) -> tuple[Queues, DmaPool]:
    """Take memory for a queue pair of `depth` entries, and for the lists of its commands."""

    def coherent(nbytes: int) -> tuple[PhysAddr, DmaAddr]:
        order = max(0, (nbytes - 1).bit_length() - PAGE_SHIFT)
        phys = board.alloc(order)
        return phys, attached.ops.alloc_coherent(phys, PAGE_SIZE << order)

    sq, cq, pool = (coherent(n) for n in (depth * SQE_BYTES, depth * CQE_BYTES, PAGE_SIZE << _POOL_ORDER))
    return Queues(*sq, *cq, depth), DmaPool(*pool, PAGE_SIZE << _POOL_ORDER)
