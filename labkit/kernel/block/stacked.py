"""Devices made of devices: a bio comes in, clones of it go on to others, and it ends when they all have (dm.c).

What such a device does with the data decides whether memory without a CPU mapping may pass: a stripe only cuts and
sends on, encryption must read every byte (D-14).
"""

import errno
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from labkit.errors import BadInput, SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.kernel.block.bio import NOT_OF_THE_IO, Bio, Op
from labkit.kernel.block.checks import refused
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.block.limits import QueueLimits, stack_limits
from labkit.kernel.block.plug import Plug
from labkit.scatter.payload import Payload
from labkit.trace.tracer import Emit
from labkit.units import SECTOR_SHIFT, Sector


class MappedDevice(BioConsumer):
    """What every device made of `targets` does (struct mapped_device); subclasses say where data goes."""

    def __init__(self, env: Clock, name: str, targets: Sequence[tuple[str, BioConsumer]], emit: Emit) -> None:
        """Stand on `targets`, each with its name, and take what all of them can take."""
        if not targets:
            raise BadInput(name, "no target", "is not enough", errno.EINVAL)
        self.env, self.name, self.targets, self._emit = env, name, targets, emit
        self.limits: QueueLimits = reduce(stack_limits, (target.limits for _, target in targets))

    def submit_bio(self, bio: Bio, plug: Plug | None = None) -> Steps:
        """Send clones of `bio` on. It ends when all have, with the error of the first that failed (bio_chain)."""
        if (no := refused(bio, self.limits, self.name)) is not None:
            bio.endio(no.errno, no)
            return
        try:
            if bio.opf & Op.PREFLUSH:
                yield from self._flush_first(bio)
            if bio.nbytes and not bio.error:
                yield from self._map(bio, plug)
        except SyscallError as bad:
            bio.endio(bad.errno, bad)
        except BaseException:
            bio.endio(errno.EIO)
            raise
        else:
            bio.endio()

    @abstractmethod
    def _map(self, bio: Bio, plug: Plug | None) -> Steps:
        """Send the data of `bio` on."""

    def _flush_first(self, bio: Bio) -> Steps:
        """Flush every target, and wait where data is to come behind that (__send_empty_flush).

        Simplified: upstream a worker waits, here it is the task.
        """
        empty, flushes = bio.payload.slice(0, 0), list[Bio]()
        for index in range(len(self.targets)):
            flushes.append(flush := self._clone(bio, empty, Sector(0)))
            flush.opf = Op.PREFLUSH
            yield from self.targets[index][1].submit_bio(flush)
        for flush in flushes if bio.nbytes else ():
            yield flush.done

    def _clone(self, bio: Bio, payload: Payload, sector: Sector) -> Bio:
        """Return a clone of `bio` with `payload` for `sector` of a target; `bio` waits for it (bio_chain).

        Raises SyscallError EINVAL for a part of what is atomic: the other part could be missing (SPLIT-5).
        """
        if bio.opf & Op.ATOMIC and 0 < payload.nbytes < bio.nbytes:
            what = f"{bio.nbytes} bytes"
            raise SyscallError(self.name, what, "cannot be atomic: they go on in parts (SPLIT-5)", errno.EINVAL)
        clone = Bio(self.env, bio.bio, bio.io, sector, payload, write=bio.write, opf=bio.opf & ~Op.PREFLUSH)
        clone.task = bio.task
        clone.end_io = lambda ended: bio.endio(ended.error, ended.why)
        bio.remaining += 1
        return clone

    def _send(self, clone: Bio, index: int, sector: Sector, plug: Plug | None) -> Steps:
        """Send `clone` to target `index`; `sector` is where it was here."""
        name, target = self.targets[index]
        nr_sector = clone.nbytes >> SECTOR_SHIFT
        self._emit(("BlockBioRemap", self.env.now, clone.io, clone.bio, sector, nr_sector, clone.sector, name))
        yield from target.submit_bio(clone, plug)


def part_of(bio: Bio, at: int) -> int:
    """Return where in its IO byte `at` of `bio` is, if it is of the IO at all."""
    return bio.start + at if bio.start >= 0 else NOT_OF_THE_IO


class Stripe(MappedDevice):
    """dm-stripe: chunks of `chunk_sectors` go to the targets in turn. No byte is looked at."""

    def __init__(
        self, env: Clock, name: str, targets: Sequence[tuple[str, BioConsumer]], chunk_sectors: int, emit: Emit
    ) -> None:
        """Cut bios at chunks. Raises BadInput EINVAL for a chunk that is no whole number of pages' sectors.

        An atomic write stays inside one: a power of two that divides a chunk (blk_stack_atomic_writes_chunk_sectors).
        """
        super().__init__(env, name, targets, emit)
        chunk = chunk_sectors << SECTOR_SHIFT
        if chunk_sectors < 1 or chunk_sectors % 8 or chunk % self.limits.logical_block_size:
            raise BadInput(name, f"chunk_sectors={chunk_sectors}", "is no whole number of pages", errno.EINVAL)
        self.chunk_sectors = chunk_sectors
        whole = min(self.limits.atomic_write_unit_max, chunk & -chunk)
        self.limits = replace(
            self.limits, chunk_sectors=chunk_sectors, io_min=chunk, io_opt=chunk * len(targets),
            atomic_write_unit_max=whole, atomic_write_unit_min=min(self.limits.atomic_write_unit_min, whole),
        )  # fmt: skip

    def map(self, sector: Sector) -> tuple[int, Sector]:
        """Return which target has `sector`, and where (stripe_map_sector)."""
        chunk, offset = divmod(sector, self.chunk_sectors)
        row, index = divmod(chunk, len(self.targets))
        return index, Sector(row * self.chunk_sectors + offset)

    def _map(self, bio: Bio, plug: Plug | None) -> Steps:
        at = 0
        while at < bio.nbytes:
            sector = Sector(bio.sector + (at >> SECTOR_SHIFT))
            index, there = self.map(sector)
            take = min(bio.nbytes - at, (self.chunk_sectors - sector % self.chunk_sectors) << SECTOR_SHIFT)
            clone = self._clone(bio, bio.payload.slice(at, take), there)
            clone.start = part_of(bio, at)
            yield from self._send(clone, index, sector, plug)
            at += take
