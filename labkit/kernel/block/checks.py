"""What a device asks of a bio before it looks at its data: submit_bio_noacct and blk_mq_submit_bio (BLK-2)."""

import errno

from labkit.errors import SyscallError
from labkit.kernel.block.bio import Bio, Op
from labkit.kernel.block.limits import QueueLimits
from labkit.units import SECTOR_SHIFT


def refused(bio: Bio, limits: QueueLimits, name: str, nr_sectors: int = 0) -> SyscallError | None:
    """Return why device `name` of `nr_sectors` sectors, 0 for any number, does not take `bio`; None if it does.

    EOPNOTSUPP for NOWAIT where the device may sleep, EIO beyond the end, EINVAL for what it cannot write at once.
    """
    if bio.opf & Op.NOWAIT and not limits.nowait:
        return SyscallError(name, "NOWAIT", "is not for a device that may sleep (BLK-2)", errno.EOPNOTSUPP)
    nr = bio.nbytes >> SECTOR_SHIFT
    if nr and 0 < nr_sectors < bio.sector + nr:
        rule = f"lie beyond the end of {nr_sectors} (BLK-2)"
        return SyscallError(name, f"sectors {bio.sector}+{nr}", rule, errno.EIO)
    low, high = limits.atomic_write_unit_min, limits.atomic_write_unit_max
    if bio.opf & Op.ATOMIC and (bio.nbytes > high or bio.nbytes % (low or 1)):
        rule = f"cannot be atomic: the device takes multiples of {low}, {high} at most (BLK-2)"
        return SyscallError(name, f"{bio.nbytes} bytes", rule, errno.EINVAL)
    return None


def unaligned(bio: Bio, limits: QueueLimits) -> SyscallError | None:
    """Return EIO, with its reason, for a bio that is not of whole logical blocks (bio_unaligned, BLK-2)."""
    lbs = limits.logical_block_size
    if (bio.sector << SECTOR_SHIFT | bio.nbytes) % lbs == 0:
        return None
    where = f"sector {bio.sector}, {bio.nbytes} bytes"
    return SyscallError("block", where, f"are no whole blocks of {lbs} (BLK-2)", errno.EIO)


def unpolled(bio: Bio, *, refuses: bool) -> SyscallError | None:
    """Return EOPNOTSUPP for a bio that is to be polled for: no queue of the lab is polled (BLK-2).

    `refuses`: whether this kernel says so; an older one forgets the wish (bio_clear_polled).
    """
    if bio.opf & Op.POLLED and refuses:
        return SyscallError("block", "RWF_HIPRI", "needs a queue for polling (BLK-2)", errno.EOPNOTSUPP)
    bio.opf &= ~Op.POLLED
    return None
