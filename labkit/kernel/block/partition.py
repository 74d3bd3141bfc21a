"""A partition takes bios for a part of a disk, and passes them on with another sector (blk_partition_remap)."""

import errno

from labkit.errors import BadInput, SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.kernel.block.bio import Bio
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.block.plug import Plug
from labkit.trace.tracer import Emit
from labkit.units import SECTOR_SHIFT, Sector


class Partition(BioConsumer):
    """Sectors [start, start + nr_sects) of `disk`. It has the limits of the disk, and no queue."""

    def __init__(self, env: Clock, disk: BioConsumer, name: str, start: Sector, nr_sects: int, emit: Emit) -> None:
        """Call it `name`. Raises BadInput EINVAL where it is empty, or cuts a logical block."""
        self.env, self.disk, self.name, self.start, self.nr_sects = env, disk, name, start, nr_sects
        self.limits, self._emit = disk.limits, emit
        self.nbytes = nr_sects << SECTOR_SHIFT
        lbs = self.limits.logical_block_size
        if nr_sects < 1 or (start << SECTOR_SHIFT) % lbs or self.nbytes % lbs:
            raise BadInput(name, f"sectors {start}+{nr_sects}", f"are no whole blocks of {lbs} bytes", errno.EINVAL)

    @property
    def alignment_offset(self) -> int:
        """Return how many bytes the first physical block boundary lies behind the start; 0 where it lies there."""
        return -(self.start << SECTOR_SHIFT) % self.limits.physical_block_size

    @property
    def warning(self) -> str:
        """Return what is to be said of a start inside a physical block; nothing where all is well."""
        if not self.alignment_offset:
            return ""
        size = self.limits.physical_block_size
        return (
            f"{self.name}: sector {self.start} lies inside a physical block of {size} bytes: the device reads and "
            f"rewrites a block for each write of {size} bytes that is aligned here"
        )

    def submit_bio(self, bio: Bio, plug: Plug | None = None) -> Steps:
        """Pass `bio` on to the disk (block_bio_remap); beyond the end it ends with EIO, and nobody else hears of it."""
        nr_sector = bio.nbytes >> SECTOR_SHIFT
        if nr_sector:
            if bio.sector + nr_sector > self.nr_sects:
                where = f"sectors {bio.sector}+{nr_sector}"
                rule = f"lie beyond the end of {self.nr_sects} (submit_bio_noacct)"
                bio.endio(errno.EIO, SyscallError(self.name, where, rule, errno.EIO))
                return
            there = Sector(self.start + bio.sector)
            self._emit(("BlockBioRemap", self.env.now, bio.io, bio.bio, bio.sector, nr_sector, there, self.name))
            bio.sector = there
        yield from self.disk.submit_bio(bio, plug)
