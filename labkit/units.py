"""The units of the kernel as types, so that mixing them does not type-check."""

from typing import NewType

PhysAddr = NewType("PhysAddr", int)
"""A physical address, in bytes."""
DmaAddr = NewType("DmaAddr", int)
"""An address as a device puts it on the bus (an IOVA, or a bus address), in bytes."""
UserAddr = NewType("UserAddr", int)
"""A user virtual address, in bytes."""
Pfn = NewType("Pfn", int)
"""A page frame number: a physical address shifted right by PAGE_SHIFT."""
Sector = NewType("Sector", int)
"""A position on a block device in units of 512 bytes, whatever its logical block size."""
Nsec = NewType("Nsec", int)
"""A time, or a duration, in whole nanoseconds."""

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
SECTOR_SHIFT = 9
SECTOR_SIZE = 1 << SECTOR_SHIFT
PMD_ORDER = 9
PUD_ORDER = 18
MAX_PAGE_ORDER = 10
TASK_SIZE_MAX = (1 << 47) - PAGE_SIZE

_STEPS = ((30, "GiB"), (20, "MiB"), (10, "KiB"))


def PFN_PHYS(pfn: Pfn) -> PhysAddr:
    """Return the physical address of the first byte of frame `pfn`."""
    return PhysAddr(pfn << PAGE_SHIFT)


def PHYS_PFN(addr: PhysAddr) -> Pfn:
    """Return the frame that holds the byte at physical address `addr`."""
    return Pfn(addr >> PAGE_SHIFT)


def human_bytes(nbytes: int) -> str:
    """Return `nbytes` in the largest binary unit that leaves a short number: 1048576 -> '1 MiB'."""
    for shift, name in _STEPS:
        if nbytes >= 1 << shift:
            whole, rest = divmod(nbytes, 1 << shift)
            return f"{whole} {name}" if rest == 0 else f"{nbytes / (1 << shift):.1f} {name}"
    return f"{nbytes} B"


def human_ns(nsec: int) -> str:
    """Return a duration of `nsec` nanoseconds as text: 24200 -> '24.20 µs'."""
    for scale, name in ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")):
        if abs(nsec) >= scale:
            return f"{nsec / scale:.2f} {name}"
    return f"{nsec} ns"
