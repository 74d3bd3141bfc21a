"""What block device the IO of a scenario is done on: the disk, or something that stands on it (D-14)."""

from collections.abc import Callable
from typing import Protocol

from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.device import Device
from labkit.hardware.ram import RAM
from labkit.kernel.block.blk_mq import RequestQueue
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.block.crypt import Crypt
from labkit.kernel.block.partition import Partition
from labkit.kernel.block.stacked import Stripe
from labkit.kernel.mm.frames.frames import Frames
from labkit.machine.plug import kernel_pages
from labkit.scatter.payload import Ranges
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PHYS_PFN, SECTOR_SHIFT, PhysAddr, Sector

_FIRST = Sector(2048)
"""Where the first partition begins: 1 MiB, as partitioning tools have it."""
_CHUNK = 64 << 10
"""Bytes of a stripe's chunk."""
_KEY = b"labkit"


class Parts(Protocol):
    """As much of a machine as a stack of devices needs."""

    clock: Clock
    cpu: Cpu
    ram: RAM
    frames: Frames
    device: Device
    queue: RequestQueue
    disk: str


class Disk:
    """The disk itself; what stands on it says where a byte of it is on the medium."""

    def __init__(self, parts: Parts, emit: Emit) -> None:
        """Stand on the device of `parts`; tell `emit` of bios that go on to another sector."""
        self.parts, self.emit = parts, emit
        self.path, self.nbytes = f"/dev/{parts.disk}", parts.device.nbytes
        self.device: BioConsumer = parts.queue

    @property
    def kernel_frames(self) -> int:
        """Frames that this device has taken for IO that is on its way."""
        return 0

    def where(self, pos: int) -> tuple[int, int]:
        """Return the byte of the medium that is byte `pos` here, and how many follow it without a break."""
        return pos, self.nbytes - pos

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return bytes [pos, pos + nbytes), up to the end, as users of this device read them, by a way no IO takes."""
        parts, end = [], min(pos + nbytes, self.nbytes)
        while pos < end:
            at, room = self.where(pos)
            parts.append(self.parts.device.peek(at, min(room, end - pos)))
            pos += len(parts[-1])
        return b"".join(parts)

    def poke(self, pos: int, data: bytes) -> None:
        """Set bytes from `pos` on, up to the end, by a way that no IO takes."""
        done, data = 0, data[: max(0, self.nbytes - pos)]
        while done < len(data):
            at, room = self.where(pos + done)
            self.parts.device.poke(at, data[done : done + room])
            done += min(room, len(data) - done)


class OnPartition(Disk):
    """The second of two partitions: its sectors are the disk's, a little further on."""

    def __init__(self, parts: Parts, emit: Emit) -> None:
        """Begin in the middle of the disk."""
        super().__init__(parts, emit)
        _, second = _halves(parts, emit)
        self.device, self.path, self.nbytes = second, f"/dev/{second.name}", second.nbytes
        self._start = second.start << SECTOR_SHIFT

    def where(self, pos: int) -> tuple[int, int]:
        """Return the byte of the disk."""
        return self._start + pos, self.nbytes - pos


class OnStripe(Disk):
    """Both partitions in turn, 64 KiB each."""

    def __init__(self, parts: Parts, emit: Emit) -> None:
        """Stripe over the two halves of the disk."""
        super().__init__(parts, emit)
        self._halves = _halves(parts, emit)
        targets = [(half.name, half) for half in self._halves]
        self._stripe = Stripe(parts.clock, "stripe0", targets, _CHUNK >> SECTOR_SHIFT, emit)
        self.device, self.path = self._stripe, "/dev/mapper/stripe0"
        self.nbytes = 2 * (min(half.nbytes for half in self._halves) // _CHUNK * _CHUNK)

    def where(self, pos: int) -> tuple[int, int]:
        """Return the byte of the disk; a chunk goes on to its end."""
        index, sector = self._stripe.map(Sector(pos >> SECTOR_SHIFT))
        start = (self._halves[index].start + sector) << SECTOR_SHIFT
        return start + pos % 512, _CHUNK - pos % _CHUNK


class OnCrypt(Disk):
    """The disk, encrypted: the medium holds other bytes than the user's."""

    def __init__(self, parts: Parts, emit: Emit) -> None:
        """Encrypt the whole disk."""
        super().__init__(parts, emit)
        self._pages = BouncePages(parts.frames)
        self._crypt = Crypt(
            parts.clock, "crypt0", (parts.disk, parts.queue), _KEY, parts.ram, self._pages, emit,
            page_ns=parts.cpu.copy_page,
        )  # fmt: skip
        self.device, self.path = self._crypt, "/dev/mapper/crypt0"

    @property
    def kernel_frames(self) -> int:
        """Frames that hold what is encrypted."""
        return self._pages.held

    def peek(self, pos: int, nbytes: int) -> bytes:
        """Return the bytes in clear."""
        first, skip = pos >> SECTOR_SHIFT, pos % 512
        whole = -(-(skip + nbytes) // 512) * 512
        return self._crypt.transform(super().peek(first << SECTOR_SHIFT, whole), Sector(first))[skip : skip + nbytes]

    def poke(self, pos: int, data: bytes) -> None:
        """Encrypt `data`, and set it; what stands beside it in its sectors stays."""
        first, skip = pos >> SECTOR_SHIFT, pos % 512
        whole = -(-(skip + len(data)) // 512) * 512
        clear = bytearray(self.peek(first << SECTOR_SHIFT, whole))
        clear[skip : skip + len(data)] = data
        super().poke(first << SECTOR_SHIFT, self._crypt.transform(bytes(clear), Sector(first)))


class BouncePages:
    """Pages of the kernel's own that hold what is encrypted until it is written."""

    def __init__(self, frames: Frames) -> None:
        """Take them from `frames`."""
        self.frames, self.held = frames, 0

    def alloc(self, nbytes: int) -> Ranges:
        """Return ranges of `nbytes` in all. Raises SyscallError ENOMEM."""
        pages = -(-nbytes // PAGE_SIZE) << PAGE_SHIFT
        runs, short = list(kernel_pages(self.frames, pages)), pages - nbytes
        runs[-1] = (runs[-1][0], runs[-1][1] - short)
        self.held += pages >> PAGE_SHIFT
        return tuple(runs)

    def free(self, ranges: Ranges) -> None:
        """Give them back, cleared."""
        for addr, nbytes in ranges:
            for at in range(addr, addr + nbytes, PAGE_SIZE):
                self.frames.wipe(at, PAGE_SIZE)
                self.frames.buddy.free_pages(PHYS_PFN(PhysAddr(at)), 0)
                self.held -= 1


def _halves(parts: Parts, emit: Emit) -> tuple[Partition, Partition]:
    """Return two partitions of the disk, of the same size."""
    size = (parts.device.nbytes >> SECTOR_SHIFT) - _FIRST
    size = size // 2 // 2048 * 2048
    first = Partition(parts.clock, parts.queue, f"{parts.disk}p1", _FIRST, size, emit)
    return first, Partition(parts.clock, parts.queue, f"{parts.disk}p2", Sector(_FIRST + size), size, emit)


STACKS: dict[str, Callable[[Parts, Emit], Disk]] = {
    "none": Disk,
    "partition": OnPartition,
    "stripe": OnStripe,
    "crypt": OnCrypt,
}
"""What an IO may be done on, by the names that a scenario has for it."""
