"""virtio-blk: a disk of the host. Only a DMA backend that is none of the guest's own makes it use the DMA API."""

from labkit.hardware.device import Bus
from labkit.hardware.media.host import Host
from labkit.hardware.virtio_blk import Rings, VirtioBlk, VirtioProfile
from labkit.kernel.block.driver_limits import virtio_limits
from labkit.kernel.block.limits import MAX_SEGMENT_SIZE
from labkit.kernel.dma.ops import DmaDevice
from labkit.kernel.dma.pool import DmaPool
from labkit.kernel.drivers.virtio_blk.driver import PDU_BYTES, VirtioBlkDriver
from labkit.kernel.drivers.virtio_blk.maps import VringMaps
from labkit.kernel.drivers.virtio_blk.vring import Vring
from labkit.machine.build.board import DATA, Board, Built
from labkit.machine.build.dma import attach
from labkit.machine.build.medium import medium_of
from labkit.units import PAGE_SHIFT, PAGE_SIZE, DmaAddr, PhysAddr

_SIZE_MAX = (1 << 64) - 1


def build_virtio(board: Board) -> Built:
    """Build a virtio disk; `--dma direct` is one without VIRTIO_F_ACCESS_PLATFORM (VIO-3), which has no mask either."""
    scenario, path = board.scenario, DATA / "virtio.toml"
    profile, medium = VirtioProfile.load(path, scenario.profile), medium_of(board, path, Host)
    platform = scenario.backend != "direct"
    mask = (1 << scenario.device_mask) - 1 if platform else _SIZE_MAX
    attached = attach(board, DmaDevice(mask=mask, max_segment_size=MAX_SEGMENT_SIZE))
    bus: Bus = attached.bus if platform else board.ram
    device = VirtioBlk(board.clock, bus, medium, profile, board.emit)
    maps = VringMaps(
        board.clock, board.cpu, attached.ops, board.emit, attached.peers, platform=platform, rules=board.rules
    )
    num = 1 << (profile.queue_size.bit_length() - 1)
    vring = _vring(board, num, tables=bool(profile.indirect))
    dma = (
        attached.ops.alloc_coherent(PhysAddr(vring.desc), PAGE_SIZE << _order(Vring.size(num)))
        if platform
        else vring.desc
    )
    moved = dma - vring.desc
    device.set_queue(Rings(dma, vring.avail + moved, vring.used + moved, num))
    pdus = board.alloc(_order(PDU_BYTES * num))
    driver = VirtioBlkDriver(board.clock, board.cpu, board.ram, maps, device, vring, pdus, board.emit)
    limits = virtio_limits(
        min(profile.seg_max, num - 2), depth=num if profile.indirect else num // 2, rules=board.rules,
        max_mapping_size=attached.ops.max_mapping_size if platform else _SIZE_MAX,
    )  # fmt: skip
    return Built("vda", device, limits, driver, attached.ops, medium)


def _vring(board: Board, num: int, *, tables: bool) -> Vring:
    """Take memory for the rings, and for a table of every slot."""
    pool = None
    if tables:
        order = _order(num * PAGE_SIZE)
        phys = board.alloc(order)
        pool = DmaPool(phys, DmaAddr(phys), PAGE_SIZE << order)
    return Vring(board.ram, board.alloc(_order(Vring.size(num))), num, pool)


def _order(nbytes: int) -> int:
    return max(0, (nbytes - 1).bit_length() - PAGE_SHIFT)
