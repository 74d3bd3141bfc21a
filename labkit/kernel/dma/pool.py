"""Small blocks of memory that driver and device share: a dma_pool."""

import errno
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.units import PAGE_SIZE, DmaAddr, PhysAddr


class Block(NamedTuple):
    """A block at byte `offset` of the pool's memory, `nbytes` long."""

    offset: int
    nbytes: int


class DmaPool:
    """Blocks of 256 and of 4096 bytes out of one coherent piece of memory (NVME-5)."""

    SMALL = 256

    def __init__(self, phys: PhysAddr, dma: DmaAddr, nbytes: int) -> None:
        """Hand out `nbytes` bytes (whole pages) at physical `phys`, which the device knows as `dma`."""
        self.phys, self.dma = phys, dma
        self._pages = list(range(nbytes - PAGE_SIZE, -1, -PAGE_SIZE))
        self._small: list[int] = []
        self.in_use = 0

    def alloc(self, nbytes: int) -> Block:
        """Return a block of at least `nbytes` (at most 4096). Raises SyscallError ENOMEM when none is left."""
        small = nbytes <= self.SMALL
        if small and not self._small and self._pages:
            page = self._pages.pop()
            self._small.extend(range(page + PAGE_SIZE - self.SMALL, page - 1, -self.SMALL))
        free = self._small if small else self._pages
        if not free:
            raise SyscallError("dma_pool", f"{nbytes} bytes", "are not to be had", errno.ENOMEM)
        self.in_use += 1
        return Block(free.pop(), self.SMALL if small else PAGE_SIZE)

    def free(self, block: Block) -> None:
        """Take `block` back."""
        self.in_use -= 1
        (self._small if block.nbytes == self.SMALL else self._pages).append(block.offset)
