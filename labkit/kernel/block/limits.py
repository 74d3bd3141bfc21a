"""What a queue can take: the limits that a device publishes, made whole as blk_validate_limits does (LIM-1..4)."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import gcd, lcm
from typing import Any, NoReturn, Self

from labkit.errors import BadInput
from labkit.kernel.version import NEWEST, Rules, rules_of
from labkit.units import PAGE_SIZE, SECTOR_SHIFT, SECTOR_SIZE

BLK_SAFE_MAX_SECTORS = 255
BLK_MAX_SEGMENTS = 128
BLK_MAX_SEGMENT_SIZE = 64 << 10
BLK_SEG_BOUNDARY_MASK = 0xFFFF_FFFF
MAX_SEGMENT_SIZE = (1 << 32) - 1
_PAGE_SECTORS = PAGE_SIZE // SECTOR_SIZE
_MAX_LOGICAL_BLOCK = 64 << 10
_MAX_SEGMENTS = 0xFFFF
_NOMERGES = (0, 1, 2)
_ADDRESS_MASKS = ("virt_boundary_mask", "seg_boundary_mask")
_LONG, _TOLD = 10**40, 60
_NVME_MAX_BYTES = 8 << 20
_RULES = rules_of(NEWEST)[0]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The names of the kernel's queue_limits; sizes in bytes, sectors of 512 bytes, masks as masks.

    A 0 where the kernel has a default becomes that. `max_sectors` is what the queue uses at a time: it follows from
    what the hardware takes, what somebody asked for, and the cap of this kernel (LIM-2), unless it is given.
    """

    logical_block_size: int = SECTOR_SIZE
    physical_block_size: int = 0
    max_sectors: int = 0
    max_segments: int = BLK_MAX_SEGMENTS
    max_segment_size: int = 0
    dma_alignment: int = SECTOR_SIZE - 1
    virt_boundary_mask: int = 0
    seg_boundary_mask: int = BLK_SEG_BOUNDARY_MASK
    nr_requests: int = 128
    max_hw_sectors: int = 0
    max_user_sectors: int = 0
    """What somebody wrote to max_sectors_kb, in sectors; 0 where nobody did."""
    io_min: int = 0
    io_opt: int = 0
    chunk_sectors: int = 0
    """A request never crosses a multiple of this; 0 for no such boundary."""
    nomerges: int = 0
    """1: no lookup for merges; 2: no merges at all."""
    write_cache: bool = False
    fua: bool = False
    nowait: bool = True
    stable_writes: bool = False
    """Whether memory must not change while it is written: the device has checksums of it."""
    pci_p2pdma: bool = False
    """Whether memory of PCI devices that has struct pages may come here (BLK_FEAT_PCI_P2PDMA, P2P-5)."""
    atomic_write_unit_min: int = 0
    atomic_write_unit_max: int = 0
    atomic_write_boundary: int = 0
    max_sectors_cap: int = _RULES.max_sectors_cap
    """The kernel's cap, in bytes: Rules.max_sectors_cap (LIM-2)."""

    @classmethod
    def from_sysfs(cls, values: Mapping[str, int | str]) -> Self:
        """Take the limits of a real queue, by their names in /sys/block/*/queue; what it does not tell is the default.

        Raises BadInput EINVAL for a name that is missing, a value that is no number, and what the kernel refuses.
        """
        hw_kb = number(values, "max_hw_sectors_kb", number(values, "max_sectors_kb"))
        same: dict[str, Any] = {name: number(values, name, default) for name, default in _SYSFS.items()}
        return cls(
            max_hw_sectors=_sectors(hw_kb, hw_kb),
            max_sectors=_sectors(number(values, "max_sectors_kb"), hw_kb),
            io_min=number(values, "minimum_io_size", 0),
            io_opt=number(values, "optimal_io_size", 0),
            atomic_write_unit_min=number(values, "atomic_write_unit_min_bytes", 0),
            atomic_write_unit_max=number(values, "atomic_write_unit_max_bytes", 0),
            atomic_write_boundary=number(values, "atomic_write_boundary_bytes", 0),
            stable_writes=bool(number(values, "stable_writes", 0)),
            write_cache=values.get("write_cache") == "write back",
            fua=bool(number(values, "fua", 0)),
            **same,
        )

    def asked(self, kb: int) -> Self:
        """Return the limits after somebody has written `kb` to max_sectors_kb; 0 leaves it to the kernel (LIM-2)."""
        return replace(self, max_user_sectors=2 * kb, max_sectors=0)

    def __post_init__(self) -> None:
        """Fill in what is 0, round what must be whole; raise BadInput for limits that blk_validate_limits refuses."""
        for field in fields(self):
            self._number(field.name, getattr(self, field.name))
        self._blocks()
        self._sectors()
        self._segments()
        self._features()

    def _number(self, name: str, value: object) -> None:
        """Refuse what is no number that the kernel has room for: 32 bits, and an address for a mask of addresses."""
        if not isinstance(value, int):
            raise BadInput("limits", f"{name}={value!r}"[:_TOLD], "is not a whole number", errno.EINVAL)
        if value < 0:
            self._refuse(name, "is negative")
        bits = 63 if name in _ADDRESS_MASKS else 32
        if value >> bits:
            self._refuse(name, f"is more than {bits} bits")

    def _blocks(self) -> None:
        """LIM-1: the logical block, the physical one, and what is best to ask for at a time."""
        lbs = self.logical_block_size
        if lbs < SECTOR_SIZE or lbs > _MAX_LOGICAL_BLOCK or lbs & (lbs - 1):
            self._refuse("logical_block_size", "is not a power of two from 512 to 64 KiB (LIM-1)")
        pbs = max(lbs, self.physical_block_size)
        if pbs & (pbs - 1):
            self._refuse("physical_block_size", "is not a power of two (LIM-1)")
        self._set(physical_block_size=pbs, io_min=max(self.io_min, pbs), io_opt=self.io_opt // pbs * pbs)

    def _sectors(self) -> None:
        """LIM-2: what the hardware takes at a time, and what the queue does."""
        told = "max_hw_sectors" if self.max_hw_sectors or not self.max_sectors else "max_sectors"
        block, hw = self.logical_block_size >> SECTOR_SHIFT, getattr(self, told) or BLK_SAFE_MAX_SECTORS
        if hw < _PAGE_SECTORS or hw < block:
            self._refuse(told, "is less than a page, or than a logical block (LIM-2)")
        for name in ("max_user_sectors", "max_sectors"):
            if 0 < getattr(self, name) < max(_PAGE_SECTORS, block):
                self._refuse(name, "is less than a page, or than a logical block (LIM-2)")
        hw = hw // block * block
        wish = max(_PAGE_SECTORS, self.max_sectors or self.max_user_sectors or self._cap())
        self._set(max_hw_sectors=hw, max_sectors=min(hw, wish) // block * block)

    def _cap(self) -> int:
        """Return the kernel's cap in sectors, or what the device calls best if that is more (LIM-2)."""
        best = (size for size in (self.io_opt, self.io_min) if size > self.max_sectors_cap)
        return next(best, self.max_sectors_cap) >> SECTOR_SHIFT

    def _segments(self) -> None:
        """LIM-3, LIM-4: how many segments, how large, with which boundaries, and how aligned."""
        if self.nr_requests < 1:
            self._refuse("nr_requests", "is less than 1 (MQ-2)")
        if self.max_segments > _MAX_SEGMENTS:
            self._refuse("max_segments", f"is more than {_MAX_SEGMENTS}, which 16 bits hold (LIM-3)")
        size = MAX_SEGMENT_SIZE if self.virt_boundary_mask else BLK_MAX_SEGMENT_SIZE
        self._set(
            max_segments=self.max_segments or BLK_MAX_SEGMENTS,
            seg_boundary_mask=self.seg_boundary_mask or BLK_SEG_BOUNDARY_MASK,
            max_segment_size=self.max_segment_size or size,
            dma_alignment=self.dma_alignment or SECTOR_SIZE - 1,
        )
        if self.seg_boundary_mask < PAGE_SIZE - 1:
            self._refuse("seg_boundary_mask", "is less than a page (LIM-3)")
        if self.max_segment_size < PAGE_SIZE and not self.virt_boundary_mask:
            self._refuse("max_segment_size", "is less than a page (LIM-3)")
        if self.dma_alignment > PAGE_SIZE:
            self._refuse("dma_alignment", "is more than a page (LIM-4)")
        for name in ("dma_alignment", *_ADDRESS_MASKS):
            if getattr(self, name) & (getattr(self, name) + 1):
                self._refuse(name, "is not a mask, such as 511 or 4095")

    def _features(self) -> None:
        """LIM-4: no FUA where nothing is cached. SPLIT-2: atomic writes that make no sense are none."""
        if self.nomerges not in _NOMERGES:
            self._refuse("nomerges", "is not 0, 1 or 2 (R14)")
        self._set(fua=self.fua and self.write_cache)
        low, high, edge = self.atomic_write_unit_min, self.atomic_write_unit_max, self.atomic_write_boundary
        powers = low and high and not (low & (low - 1) or high & (high - 1) or edge & (edge - 1))
        if not powers or low > high or (edge and (high > edge or (self.chunk_sectors << SECTOR_SHIFT) % edge)):
            self._set(atomic_write_unit_min=0, atomic_write_unit_max=0, atomic_write_boundary=0)
            return
        most = 1 << (min(self.max_hw_sectors << SECTOR_SHIFT, self._sure()).bit_length() - 1)
        self._set(atomic_write_unit_min=min(low, most), atomic_write_unit_max=min(high, most))

    def _sure(self) -> int:
        """Return how many bytes fit one request however they lie in memory (blk_queue_max_guaranteed_bio)."""
        segments = min(256, self.max_segments)
        return min(segments, 2) * self.logical_block_size + max(0, segments - 2) * PAGE_SIZE

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _refuse(self, name: str, rule: str) -> NoReturn:
        value = getattr(self, name)
        told = str(value) if -_LONG < value < _LONG else hex(value)  # Python tells no number of 4,300 digits
        raise BadInput("limits", f"{name}={told}"[:_TOLD], rule, errno.EINVAL)


_SYSFS = {
    "logical_block_size": None, "physical_block_size": None, "max_segments": None, "max_segment_size": None,
    "dma_alignment": None, "virt_boundary_mask": None, "nr_requests": None, "chunk_sectors": 0, "nomerges": 0,
}  # fmt: skip
"""The limits that sysfs tells by their own names, and what they are where it does not; None if it must."""


def number(values: Mapping[str, int | str], name: str, default: int | None = None) -> int:
    """Return a number of sysfs. Raises BadInput EINVAL where it is missing, or is none."""
    value = values.get(name, default)
    try:
        if isinstance(value, (int, str)):
            return int(value)
    except ValueError:
        pass
    rule = "is missing" if value is None else "is not a number"
    raise BadInput("limits", name if value is None else f"{name}={value!r}"[:_TOLD], rule, errno.EINVAL)


def _sectors(kb: int, hw_kb: int) -> int:
    """Return `kb` KiB in sectors. The one odd default, 255, shows as 127 KiB, of the hardware too (LIM-2)."""
    return BLK_SAFE_MAX_SECTORS if kb == hw_kb == BLK_SAFE_MAX_SECTORS // 2 else 2 * kb


def stack_limits(top: QueueLimits, bottom: QueueLimits) -> QueueLimits:
    """Return the limits of a device on `bottom` that is as `top` otherwise: what both can take (blk_stack_limits).

    A partition has the limits of its disk. Raises BadInput EINVAL where nothing is left that both can take.
    """
    small: dict[str, Any] = {name: _least(getattr(top, name), getattr(bottom, name)) for name in _LEAST}
    large: dict[str, Any] = {name: max(getattr(top, name), getattr(bottom, name)) for name in _MOST}
    pbs = large["physical_block_size"]
    io_opt = lcm(top.io_opt, bottom.io_opt) % (1 << 32) or top.io_opt or bottom.io_opt  # an unsigned int, as it is kept
    chunk = gcd(top.chunk_sectors, bottom.chunk_sectors)
    return replace(
        top,
        **small,
        **large,
        **_stack_atomic(top, bottom),
        io_opt=0 if io_opt % pbs else io_opt,
        chunk_sectors=0 if chunk % (pbs >> SECTOR_SHIFT) else chunk,
        nowait=top.nowait and bottom.nowait,
        pci_p2pdma=top.pci_p2pdma and bottom.pci_p2pdma,
    )


_LEAST = (
    "max_sectors", "max_hw_sectors", "max_user_sectors", "max_segments", "max_segment_size", "seg_boundary_mask",
    "virt_boundary_mask", "nr_requests",
)  # fmt: skip
_MOST = (
    "logical_block_size", "physical_block_size", "io_min", "dma_alignment", "write_cache", "fua", "stable_writes",
)  # fmt: skip


def _least(one: int, other: int) -> int:
    """Return the lesser of two that are not 0 (min_not_zero)."""
    return min(one, other) if one and other else one or other


def _stack_atomic(top: QueueLimits, bottom: QueueLimits) -> dict[str, Any]:
    """Return the atomic writes of a stack: what both can write so, none where their boundaries differ."""
    same = top.atomic_write_boundary == bottom.atomic_write_boundary
    high = min(top.atomic_write_unit_max, bottom.atomic_write_unit_max) if same else 0
    return {
        "atomic_write_unit_min": max(top.atomic_write_unit_min, bottom.atomic_write_unit_min),
        "atomic_write_unit_max": high,
        "atomic_write_boundary": top.atomic_write_boundary,
    }


def nvme_limits(
    mdts_bytes: int, *, depth: int, rules: Rules = _RULES, sgl: bool = False, opt_mapping_size: int = _NVME_MAX_BYTES,
    max_mapping_size: int = _NVME_MAX_BYTES, write_cache: bool = False,
) -> QueueLimits:  # fmt: skip
    """Return what the NVMe driver of a kernel sets for a drive whose commands move `mdts_bytes` (NVME-1, NVME-2).

    0 bytes is no limit of the drive's own. `depth` is that of a queue, one entry of which stays empty; `sgl`: whether
    the controller takes lists of segments; `opt_mapping_size`, `max_mapping_size`: bytes of a mapping (DMA-4), the
    first of which kernels before 6.12 do not look at; `write_cache`: it has one that it may lose, and FUA (NVME-10).
    """
    mapping = min(max_mapping_size, opt_mapping_size if rules.nvme_iommu_cap else max_mapping_size)
    max_hw = min(rules.nvme_max_bytes, mdts_bytes or rules.nvme_max_bytes, mapping)
    most, extra = rules.nvme_segments
    return QueueLimits(
        max_hw_sectors=max_hw // SECTOR_SIZE,
        max_segments=min(most, max_hw // PAGE_SIZE + extra),
        max_segment_size=MAX_SEGMENT_SIZE,
        dma_alignment=3,
        virt_boundary_mask=0 if sgl and rules.nvme_sgl_gaps else PAGE_SIZE - 1,
        nr_requests=depth - 1,
        pci_p2pdma=rules.p2p_pages,
        write_cache=write_cache,
        fua=write_cache,
        max_sectors_cap=rules.max_sectors_cap,
    )
