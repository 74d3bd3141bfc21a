"""What differs between the kernels that the lab knows, in one table: a rule is looked up here, never branched on.

6.1.180, 6.12.107, 6.18.15 and 7.3.4, each measured in full event sequences of random IOs, emulated and, for 6.18, on
loop devices too. A kernel in between is taken for the next older one that is known. Not measured, and not verified:
`refuses_polled`, `p2p_pages` and `nvme_max_bytes` of 6.1. Not modelled: direct IO of 6.1 takes references where later
kernels pin (FOLL_GET, FOLL_PIN); the lab counts pins for both.
"""

import errno
from typing import Literal, NamedTuple

from labkit.errors import BadInput

Check = Literal["entry", "split", "extract"]


class Rules(NamedTuple):
    """One kernel. Sizes are bytes; the rules are those of data/rules.toml."""

    name: str
    aligned: Check
    """Who looks at the alignment of memory: DIO's entry, the split (R8, R9), or the extraction (ITER-5)."""
    iovec_blocks: bool
    """Whether each iovec must hold whole logical blocks, not only all of them together (R1)."""
    folio_bound: bool
    """Whether a bio_vec ends with its folio and with the extraction that made it (R3)."""
    submit_plug: bool
    """Whether submit_bio opens a plug of its own for each piece (R7)."""
    plug_lifo: bool
    """Whether a plug hands its requests over last first (R14)."""
    flush_on_last: bool
    """Whether the last request of a plug, not the first, decides that it is full (R14)."""
    tells_flush: bool
    """Whether block_unplug tells of a plug that goes straight to the driver (R14)."""
    write_plug: bool
    """Whether a write to a block device has a plug around it, which goes when the task sleeps (R7)."""
    fixed_folios: bool
    """Whether a registered buffer keeps one vector for each large folio (R17)."""
    small_read: bool
    """Whether a file's small read inside one mapped extent takes a short way, without a plug (DIO-17b)."""
    max_sectors_cap: int
    """What a queue takes at most unless somebody asks for more, in bytes (LIM-2)."""
    nvme_iommu_cap: bool
    """Whether an NVMe command behind an IOMMU is 128 KiB at most (NVME-1)."""
    nvme_segments: tuple[int, int]
    """The most segments that NVMe asks for, and how many more than pages of its largest command (NVME-1)."""
    nvme_sgl_gaps: bool
    """Whether a controller with SGLs takes memory with gaps (NVME-2)."""
    nvme_max_bytes: int
    """What the NVMe driver asks for in one command at most, whatever the drive takes (NVME-1)."""
    p2p_pages: bool
    """Whether user memory may be pages of a PCI device (P2P-5); the flag that asks for them came after 6.1."""
    two_step: bool
    """Whether NVMe walks a request as physical ranges (LAND-4); before, by a scatterlist and dma_map_sg (SG-1)."""
    nvme_average: Literal["vectors", "mapped", "coalesced"]
    """Over what the average segment is taken that decides for SGLs: over vectors, over what was mapped, or over one
    where the device sees one range, and over vectors otherwise (NVME-4)."""
    iova_destroy_syncs: bool
    """Whether the unmap of a whole request waits for the IOTLB in lazy mode too (BLKDMA-5)."""
    swiotlb_stride: int
    """Bytes from one bounced page to the next (SWI-2)."""
    refuses_polled: bool
    """Whether a bio that is to be polled for is refused by a queue without polling, not taken as any other (BLK-2)."""


_KIB = 1 << 10
KERNELS = {
    rules.name: rules
    for rules in (
        Rules("6.1", "entry", True, False, False, True, True, False, True, False, False,
              1280 * _KIB, False, (127, 1), False, 4096 * _KIB, False, False, "vectors", False, 8 * _KIB, False),
        Rules("6.12", "entry", True, False, True, False, False, True, False, True, False,
              1280 * _KIB, True, (128, 1), False, 8192 * _KIB, True, False, "mapped", False, 4 * _KIB, False),
        Rules("6.18", "split", False, False, True, False, False, True, False, True, False,
              4096 * _KIB, True, (256, 1), False, 8192 * _KIB, True, True, "coalesced", False, 4 * _KIB, True),
        Rules("7.3", "extract", False, True, False, False, False, True, False, True, True,
              4096 * _KIB, True, (256, 1), True, 8192 * _KIB, True, True, "coalesced", True, 4 * _KIB, True),
    )
}  # fmt: skip
"""Every kernel that is known, oldest first."""
NEWEST = "7.3"


def rules_of(kernel: str) -> tuple[Rules, bool]:
    """Return the rules of `kernel`, such as '6.18.44-fc', and whether it is one that they were proven on.

    Raises BadInput EINVAL for what is no kernel's name, and for one that is older than all.
    """
    parts = kernel.partition("-")[0].partition("+")[0].split(".")
    try:
        wanted = (int(parts[0]), int(parts[1]))
    except (ValueError, IndexError):
        raise BadInput("kernel", repr(kernel[:40]), f"is not one of {', '.join(KERNELS)}", errno.EINVAL) from None
    known = {_pair(name): rules for name, rules in KERNELS.items()}
    older = [pair for pair in known if pair <= wanted]
    if not older:
        raise BadInput("kernel", repr(kernel[:40]), f"is older than {next(iter(KERNELS))}", errno.EINVAL)
    return known[max(older)], wanted in known


def _pair(name: str) -> tuple[int, int]:
    major, minor = name.split(".")
    return int(major), int(minor)
