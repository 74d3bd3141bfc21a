"""Bytes of RAM become an address map: ranges, holes, zones, and what devices add above them (BUD-1)."""

import errno
from typing import NamedTuple

from labkit.errors import BadInput, SyscallError
from labkit.units import MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE, PhysAddr, human_bytes

ZONE_NAMES = ("DMA", "DMA32", "Normal", "Movable")
"""The zones by address, as /proc/zoneinfo spells them."""
MAX_PHYSMEM = 1 << 46
"""Where physical addresses end with four levels of page tables, in bytes."""
PCI_HOLE = 3 << 30
"""Where the hole of the PCI BARs begins unless a machine is told otherwise; it ends at 4 GiB."""
SECTION_SIZE = 128 << 20
"""What device ranges are kept away from RAM by, in bytes: a section of the memory map is of one kind."""

_BLOCK = PAGE_SIZE << MAX_PAGE_ORDER
_LEAST, _DMA_END, _LEGACY, _PCI_END = 64 << 20, 16 << 20, (640 << 10, 1 << 20), 4 << 30
"""The least RAM; the end of ZONE_DMA; the hole of VGA and BIOS; the end of that of the PCI BARs. All in bytes."""
_DEVICE_ALIGN = (2 << 20, 1 << 30)


class Region(NamedTuple):
    """Physical addresses [start, end), in bytes. `struct_pages`: whether a struct page describes each of its frames."""

    name: str
    start: int
    end: int
    struct_pages: bool = True


class Memblock:
    """The address map of a machine with one node: `ram` and `zones` stay as boot leaves them, devices come and go."""

    def __init__(self, nbytes: int, movablecore: int = 0, pci_hole: int = PCI_HOLE) -> None:
        """Lay out `nbytes` of RAM: below `pci_hole`, an address, the rest from 4 GiB on, in blocks of 4 MiB.

        `movablecore` bytes at the top become ZONE_MOVABLE. Raises BadInput for less than 64 MiB, for more than physical
        addresses reach, for a ZONE_MOVABLE that leaves less than 64 MiB to the kernel, and for a hole that is none.
        """
        _check(nbytes, movablecore, pci_hole)
        low = min(nbytes, pci_hole) // _BLOCK * _BLOCK
        high = _PCI_END + max(0, nbytes - pci_hole) // _BLOCK * _BLOCK
        ranges = ((0, _LEGACY[0]), (_LEGACY[1], low), (_PCI_END, high))
        self.ram = tuple(Region("System RAM", start, end) for start, end in ranges if start < end)
        self.zones = tuple(_zones(low, high, movablecore // _BLOCK * _BLOCK))
        self._devices: dict[int, Region] = {}

    @property
    def phys_end(self) -> int:
        """The end of RAM, in bytes."""
        return self.ram[-1].end

    @property
    def devices(self) -> tuple[Region, ...]:
        """What devices have added, by address."""
        return tuple(self._devices[start] for start in sorted(self._devices))

    def add_device(self, name: str, nbytes: int, struct_pages: bool) -> PhysAddr:
        """Give `name` the lowest free addresses above RAM for `nbytes` bytes; return the first.

        The start is a multiple of the size rounded up to a power of two, of 2 MiB at least and of 1 GiB at most. A GPU
        BAR has no struct pages; a range of memremap_pages (ZONE_DEVICE: P2PDMA, dax) has. Raises BadInput for a size
        that is not whole pages, SyscallError ENOSPC where addresses end.
        """
        if nbytes <= 0 or nbytes % PAGE_SIZE:
            raise BadInput("memblock", f"{name} of {nbytes} bytes", "is not a whole number of pages", errno.EINVAL)
        align = min(max(1 << (nbytes - 1).bit_length(), _DEVICE_ALIGN[0]), _DEVICE_ALIGN[1])
        at = _round_up(_round_up(self.phys_end, SECTION_SIZE), align)
        for taken in self.devices:
            if at + nbytes > taken.start and at < taken.end:
                at = _round_up(taken.end, align)
        return self.add(Region(name, at, at + nbytes, struct_pages))

    def add(self, region: Region) -> PhysAddr:
        """Put `region` where it says; return its start. Errors: EBUSY where something is, ENOSPC past the end."""
        if region.end > MAX_PHYSMEM:
            text = f"does not fit below the end of physical addresses, {human_bytes(MAX_PHYSMEM)}"
            raise SyscallError("memblock", f"{region.name} at {region.start:#x}", text, errno.ENOSPC)
        for other in (*self.ram, *self._devices.values()):
            if region.start < other.end and other.start < region.end:
                text = f"overlaps {other.name} at {other.start:#x}"
                raise BadInput("memblock", f"{region.name} at {region.start:#x}", text, errno.EBUSY)
        self._devices[region.start] = region
        return PhysAddr(region.start)

    def remove(self, start: PhysAddr) -> Region:
        """Take away the device range that begins at `start`, and return it. Raises BadInput ENOENT without one."""
        if start not in self._devices:
            raise BadInput("memblock", f"addr={start:#x}", "begins no range of a device", errno.ENOENT)
        return self._devices.pop(start)

    def find(self, addr: int) -> Region | None:
        """Return the range, of RAM or of a device, that holds physical `addr`; None in a hole."""
        return next((r for r in (*self.ram, *self._devices.values()) if r.start <= addr < r.end), None)

    def free_frames(self, zone: Region) -> tuple[tuple[int, int], ...]:
        """Return the frames [first, past the end) of RAM in `zone`; frame 0 is reserved and stays out."""
        spans = ((max(r.start, zone.start, PAGE_SIZE), min(r.end, zone.end)) for r in self.ram)
        return tuple((start >> PAGE_SHIFT, end >> PAGE_SHIFT) for start, end in spans if start < end)

    def free_frames_of(self, name: str) -> tuple[tuple[int, int], ...]:
        """Return the same for the zone of that `name`; nothing for one that came later (online_movable)."""
        return next((self.free_frames(zone) for zone in self.zones if zone.name == name), ())


def _check(nbytes: int, movablecore: int, pci_hole: int) -> None:
    if not _LEAST <= pci_hole <= _PCI_END or pci_hole % _BLOCK:
        rule = "is not a multiple of 4 MiB from 64 MiB to 4 GiB"
        raise BadInput("memory", f"pci_hole={pci_hole:#x}", rule, errno.EINVAL)
    if nbytes < _LEAST:
        raise BadInput("memory", f"ram={human_bytes(nbytes)}", "is less than the 64 MiB that boot", errno.EINVAL)
    if nbytes > MAX_PHYSMEM - (_PCI_END - pci_hole):
        rule = f"does not fit below the end of physical addresses, {human_bytes(MAX_PHYSMEM)}"
        raise BadInput("memory", f"ram={human_bytes(nbytes)}", rule, errno.EINVAL)
    if not 0 <= movablecore <= nbytes - _LEAST:
        rule = "is not between 0 and what leaves 64 MiB to the kernel"
        raise BadInput("memory", f"movablecore={movablecore}", rule, errno.EINVAL)


def _zones(low: int, high: int, movable: int) -> list[Region]:
    """Return the zones by address. ZONE_MOVABLE is cut from the highest zone, and never from two."""
    spans = [(0, _DMA_END), (_DMA_END, low), (_PCI_END, high)]
    zones = [Region(name, *span) for name, span in zip(ZONE_NAMES, spans, strict=False) if span[0] < span[1]]
    if not movable:
        return zones
    top = zones.pop()
    cut = max(top.start, top.end - movable)
    kept = [Region(top.name, top.start, cut)] if top.start < cut else []
    return [*zones, *kept, Region("Movable", cut, top.end)]


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
