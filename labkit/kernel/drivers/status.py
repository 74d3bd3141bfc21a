"""What a driver says of a request: the block statuses, and the errno of each (BLK-1).

The kernel has them in the block layer's header; here they stand with the drivers, who say them.
"""

import errno
from enum import Enum


class BlkStatus(Enum):
    """Every block status; its value is the errno that the bio gets, a positive number."""

    BLK_STS_OK = 0
    BLK_STS_NOTSUPP = errno.EOPNOTSUPP
    BLK_STS_TIMEOUT = errno.ETIMEDOUT
    BLK_STS_NOSPC = errno.ENOSPC
    BLK_STS_TRANSPORT = errno.ENOLINK
    BLK_STS_TARGET = errno.EREMOTEIO
    BLK_STS_RESV_CONFLICT = errno.EBADE
    BLK_STS_MEDIUM = errno.ENODATA
    BLK_STS_PROTECTION = errno.EILSEQ
    BLK_STS_RESOURCE = errno.ENOMEM
    BLK_STS_DEV_RESOURCE = errno.EBUSY
    BLK_STS_AGAIN = errno.EAGAIN
    BLK_STS_OFFLINE = errno.ENODEV
    BLK_STS_ZONE_OPEN_RESOURCE = errno.ETOOMANYREFS
    BLK_STS_ZONE_ACTIVE_RESOURCE = errno.EOVERFLOW
    BLK_STS_DURATION_LIMIT = errno.ETIME
    BLK_STS_INVAL = errno.EINVAL
    BLK_STS_IOERR = errno.EIO


REQUEUE = (BlkStatus.BLK_STS_RESOURCE, BlkStatus.BLK_STS_DEV_RESOURCE)
"""What a driver answers when it is to be asked again: no user ever sees these two (BLK-1)."""
_BY_ERRNO = {status.value: status for status in BlkStatus}


def blk_status_to_errno(status: BlkStatus) -> int:
    """Return the errno of `status`, 0 for BLK_STS_OK."""
    return status.value


def errno_to_blk_status(error: int) -> BlkStatus:
    """Return the status of an errno, positive or negative; BLK_STS_IOERR for all without a better name."""
    return _BY_ERRNO.get(abs(error), BlkStatus.BLK_STS_IOERR)


def blk_status_requeues(error: int) -> bool:
    """Return whether a refusal of the driver with errno `error` means: ask me again (BLK-1)."""
    return errno_to_blk_status(error) in REQUEUE
