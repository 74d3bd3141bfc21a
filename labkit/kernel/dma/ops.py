"""What a driver asks of any way to map memory for its device: the calls of linux/dma-mapping.h, for one device."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import NamedTuple, Protocol

from labkit.scatter.payload import Range, Ranges
from labkit.units import DmaAddr, PhysAddr

IOVA_STATE_BYTES = 16
"""sizeof(struct dma_iova_state): all that is kept for the unmap of a whole request (LAND-3)."""


class DmaDir(Enum):
    """Which way the bytes go (enum dma_data_direction)."""

    TO_DEVICE = "to"
    FROM_DEVICE = "from"
    BIDIRECTIONAL = "both"


class Attrs(IntFlag):
    """DMA_ATTR_*: `MMIO` has no kernel mapping and is never bounced (DMA-1); `SKIP_CPU_SYNC` copies nothing back.

    `MACHINE` is ours: the address is a machine's already, no guest's (D-16), and has no kernel mapping either.
    """

    NONE = 0
    MMIO = 1
    SKIP_CPU_SYNC = 2
    MACHINE = 4


NO_ATTRS = Attrs.NONE


@dataclass(frozen=True, slots=True)
class DmaDevice:
    """What the DMA layer knows of a device. Masks are masks, sizes bytes."""

    name: str = "0000:00:00.0"
    mask: int = (1 << 64) - 1
    """dma_mask: the addresses that the device can put on the bus (DMA-1)."""
    min_align_mask: int = 0
    """Low bits of an address that a bounce must keep (SWI-2); NVMe: 4095."""
    seg_boundary_mask: int = 0xFFFF_FFFF
    max_segment_size: int = 64 << 10
    untrusted: bool = False
    """Whether what is not whole granules is bounced under an IOMMU (IOVA-1)."""


class IovaState(NamedTuple):
    """A stretch of device addresses that is allocated and linked piece by piece (struct dma_iova_state)."""

    addr: int
    """The first byte: as deep in its granule as the memory is in its own (IOVA-8)."""
    nbytes: int


class Undone(NamedTuple):
    """What an unmap took: IOTLB invalidations waited for, whether the range is stale until a flush, bytes copied."""

    syncs: int = 0
    stale: bool = False
    bounced: int = 0


NOTHING = Undone()


class DmaMapOps(Protocol):
    """Map and unmap for one device. Timeless: what it took is counted in `ioptes` and `bounced`, and the driver pays.

    Every call that fails raises SyscallError, and nothing is mapped then: EIO where an address cannot be had or
    reached (DMA_MAPPING_ERROR), ENOMEM where addresses or slots are used up. To unmap what is not mapped, or to map
    twice what is mapped, is a bug of the caller: InvariantError EINVAL.
    """

    @property
    def dev(self) -> DmaDevice:
        """The device."""

    @property
    def ioptes(self) -> int:
        """IOMMU page table entries written so far."""

    @property
    def bounced(self) -> int:
        """Bytes copied to and from bounce buffers so far."""

    @property
    def flushes(self) -> int:
        """How often what was unmapped and stale went all at once (IOVA-7)."""

    def map_phys(self, phys: int, nbytes: int, dir: DmaDir, attrs: Attrs = NO_ATTRS) -> DmaAddr:  # noqa: A002
        """Return the device address of `nbytes` at physical `phys` (dma_map_phys)."""

    def unmap_phys(self, addr: int, nbytes: int, dir: DmaDir, attrs: Attrs = NO_ATTRS) -> Undone:  # noqa: A002
        """Take one mapping of map_phys back (dma_unmap_phys)."""

    def map_sg(self, sg: Sequence[Range], dir: DmaDir, attrs: Attrs = NO_ATTRS) -> tuple[Range, ...]:  # noqa: A002
        """Map a whole scatterlist of physical ranges; return the (device address, bytes) that it became (dma_map_sg).

        With an IOMMU entries are concatenated as IOVA-5 allows; otherwise there are as many as there were (DMA-2).
        """

    def unmap_sg(self, sg: Sequence[Range], dma: Sequence[Range], dir: DmaDir) -> Undone:  # noqa: A002
        """Take what map_sg made of `sg`, which is `dma`, back."""

    def iova_try_alloc(self, phys: int, nbytes: int) -> IovaState | None:
        """Return one range of device addresses for `nbytes`, the first of which are at `phys`; None without an IOMMU.

        None too where no addresses are left (BLKDMA-3): the caller maps piece by piece then.
        """

    def iova_link(self, state: IovaState, offset: int, phys: int, nbytes: int, attrs: Attrs = NO_ATTRS,
                  dir: DmaDir = DmaDir.BIDIRECTIONAL) -> None:  # noqa: A002  # fmt: skip
        """Let byte `offset` of `state` and what follows lead to `phys`. EIO off a granule (IOVA-8), EPERM to bounce."""

    def iova_sync(self, state: IovaState) -> None:
        """Make what was linked visible to the device; once, at the end."""

    def iova_unlink(self, state: IovaState, offset: int, nbytes: int) -> Undone:
        """Take `nbytes` from byte `offset` of `state` on out again; the addresses stay allocated."""

    def iova_destroy(self, state: IovaState, mapped: int) -> Undone:
        """Unlink the first `mapped` bytes and free the addresses (BLKDMA-5)."""

    def iova_free(self, state: IovaState) -> None:
        """Free addresses to which nothing is linked."""

    def segments(self, ranges: Ranges) -> Ranges:
        """Return physical `ranges`, cut where what touches for the kernel does not for the device: under Xen (D-16)."""

    def phys_of(self, dma: Sequence[Range]) -> Ranges:
        """Return the physical ranges behind device ranges that are mapped: for the trace, no driver needs it."""

    def alloc_coherent(self, phys: PhysAddr, nbytes: int) -> DmaAddr:
        """Map memory that driver and device share for good; return its bus address."""

    @property
    def need_unmap(self) -> bool:
        """Whether anything is to be done at completion (dma_need_unmap, BLKDMA-5)."""

    @property
    def max_mapping_size(self) -> int:
        """Bytes of one mapping at most (dma_max_mapping_size, DMA-4)."""

    @property
    def opt_mapping_size(self) -> int:
        """Bytes of one mapping that is cheap (dma_opt_mapping_size, DMA-4)."""

    @property
    def merge_boundary(self) -> int:
        """The mask of joints that one device range can bridge, 0 where none can (dma_get_merge_boundary)."""
