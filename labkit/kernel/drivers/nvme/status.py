"""What the status of an NVMe command means to the block layer (nvme_error_status, BLK-1).

Ours: no command is tried again, as with nvme_core.max_retries=0; by default a kernel tries five times before it tells.
"""

from labkit.hardware.nvme.spec import Status
from labkit.kernel.drivers.status import BlkStatus

NVME_SCT_SC_MASK = 0x7FF
"""Type and code of a status; above them are hints, such as DNR: do not retry."""
_OF = {
    BlkStatus.BLK_STS_OK: (Status.NVME_SC_SUCCESS,),
    BlkStatus.BLK_STS_NOSPC: (Status.NVME_SC_CAP_EXCEEDED,),
    BlkStatus.BLK_STS_TARGET: (
        Status.NVME_SC_LBA_RANGE, Status.NVME_SC_CMD_INTERRUPTED, Status.NVME_SC_NS_NOT_READY,
    ),
    BlkStatus.BLK_STS_NOTSUPP: (
        Status.NVME_SC_BAD_ATTRIBUTES, Status.NVME_SC_ONCS_NOT_SUPPORTED, Status.NVME_SC_INVALID_OPCODE,
        Status.NVME_SC_INVALID_FIELD, Status.NVME_SC_INVALID_NS,
    ),
    BlkStatus.BLK_STS_MEDIUM: (
        Status.NVME_SC_WRITE_FAULT, Status.NVME_SC_READ_ERROR, Status.NVME_SC_UNWRITTEN_BLOCK,
        Status.NVME_SC_ACCESS_DENIED, Status.NVME_SC_READ_ONLY, Status.NVME_SC_COMPARE_FAILED,
    ),
    BlkStatus.BLK_STS_PROTECTION: (
        Status.NVME_SC_GUARD_CHECK, Status.NVME_SC_APPTAG_CHECK, Status.NVME_SC_REFTAG_CHECK,
        Status.NVME_SC_INVALID_PI,
    ),
    BlkStatus.BLK_STS_RESV_CONFLICT: (Status.NVME_SC_RESERVATION_CONFLICT,),
    BlkStatus.BLK_STS_TRANSPORT: (Status.NVME_SC_HOST_PATH_ERROR,),
    BlkStatus.BLK_STS_ZONE_ACTIVE_RESOURCE: (Status.NVME_SC_ZONE_TOO_MANY_ACTIVE,),
    BlkStatus.BLK_STS_ZONE_OPEN_RESOURCE: (Status.NVME_SC_ZONE_TOO_MANY_OPEN,),
}  # fmt: skip
_STATUS = {int(status): blk for blk, each in _OF.items() for status in each}


def nvme_error_status(status: int) -> BlkStatus:
    """Return the block status of an NVMe `status`; BLK_STS_IOERR for all without a better name, an abort among them."""
    return _STATUS.get(status & NVME_SCT_SC_MASK, BlkStatus.BLK_STS_IOERR)
