"""A controller moves the bytes of a command through the IOMMU, against a plain copy of as many bytes."""

import errno
from random import Random

from labkit.cli.bench.ratio import Ratio, Tick, cpu_seconds
from labkit.errors import InvariantError
from labkit.hardware.nvme.controller import NvmeCtrl
from labkit.hardware.nvme.spec import OPCODE_READ, Entry
from labkit.kernel.dma.ops import DmaDir
from labkit.machine import Machine
from labkit.units import SECTOR_SHIFT, human_bytes

SIZES = (64 << 10, 256 << 10, 1 << 20)
_WHOLE, _BYTES = 64 << 20, 512 << 20
"""Bytes of memory that the copies go to and come from, and of all copies of one round."""
Place = tuple[int, int, memoryview]
"""A position on the medium, the device address to copy to, and the same memory as the CPU has it."""


class Copier:
    """A buffer of huge folios that is mapped for a controller. Every byte of both sides was touched before."""

    def __init__(self, machine: Machine) -> None:
        """Map the buffer. Raises InvariantError where the device is no NVMe controller."""
        if not isinstance(machine.device, NvmeCtrl) or machine.dma is None:
            raise InvariantError("bench", machine.disk, "is no NVMe controller", errno.ENODEV)
        self.ctrl, self.media, task = machine.device, machine.device.medium.media, machine.task()
        at = task.mmap(_WHOLE, "2 MiB")
        task.store(at, b"\1" * _WHOLE)
        self.media[:_WHOLE] = b"\2" * _WHOLE
        self.runs = [
            (machine.dma.map_phys(pa, nbytes, DmaDir.FROM_DEVICE), machine.ram.view(pa, nbytes))
            for _, pa, nbytes, _ in task.mm.translations()
        ]

    def places(self, size: int) -> list[Place]:
        """Return where the copies of one round go: at random, so that no cache holds them."""
        chance = Random(size)  # noqa: S311 - a seeded row
        rows = []
        for _ in range(_BYTES // size):
            dma, view = chance.choice(self.runs)
            at = chance.randrange(view.nbytes // size) * size
            rows.append((chance.randrange(_WHOLE // size) * size, dma + at, view[at : at + size]))
        return rows

    def by_dma(self, size: int, places: list[Place]) -> float:
        """Return the CPU seconds of the controller's own transfers: read commands that name one piece of memory."""
        todo = [
            (Entry(OPCODE_READ, 0, 0, 1, dma, 0, pos >> SECTOR_SHIFT, (size >> SECTOR_SHIFT) - 1, 0), [(dma, size)])
            for pos, dma, _ in places
        ]
        move = self.ctrl._move  # noqa: SLF001 - the transfer alone is measured, without the command
        with cpu_seconds() as spent:
            for entry, pieces in todo:
                move(entry, size, pieces)
        return spent[0]

    def by_cpu(self, size: int, places: list[Place]) -> float:
        """Return the CPU seconds of as many copies from one memory into the other."""
        media = self.media
        with cpu_seconds() as spent:
            for pos, _, view in places:
                view[:] = media[pos : pos + size]
        return spent[0]


def compare(rounds: int, tick: Tick) -> list[Ratio]:
    """Measure each size in turn. Raises InvariantError where a transfer brings other bytes."""
    found = []
    with Machine(iommu="lazy", fragmentation=0) as machine:
        copier = Copier(machine)
        for size in SIZES:
            pairs, places = [], copier.places(size)
            for _ in range(rounds):
                tick(f"DMA of {human_bytes(size)}")
                theirs, ours = copier.by_cpu(size, places), copier.by_dma(size, places)
                pairs.append((_BYTES / ours / (1 << 20), _BYTES / theirs / (1 << 20)))
            if any(bytes(view) != bytes(copier.media[pos : pos + size]) for pos, _, view in places[-1:]):
                raise InvariantError("bench", f"a DMA of {size} bytes", "does not bring what was there", errno.EIO)
            found.append(Ratio.of(f"DMA of {human_bytes(size)}", pairs, "a plain copy", "MiB/CPU s", 0.95))
    return found
