"""What an NVMe driver and a controller agree on: the base specification, as far as the lab goes."""

import struct
from enum import IntEnum
from typing import NamedTuple

SQE_BYTES, CQE_BYTES = 64, 16
OPCODE_FLUSH, OPCODE_WRITE, OPCODE_READ = 0x00, 0x01, 0x02
PSDT, PSDT_SGL = 0xC0, 0x40
"""Bits of the flags that say what the data pointer is: 0 for PRPs, this for an SGL."""
CONTROL_FUA = 1 << 14
"""Bit 30 of command dword 12: what is written is on the medium when the command completes."""
CONTROLLER_FATAL = -1
"""What `done` is told when the controller cannot reach its own queues (CSTS.CFS): no completion entry is written."""
SQE = struct.Struct("<BBHI8x8xQQQHH12x")
"""opcode, flags, command id, namespace, (metadata), PRP1, PRP2 (or both halves of an SGL descriptor), start LBA,
blocks - 1, control."""
CQE = struct.Struct("<I4xHHHH")
"""result, head of the submission queue, its id, command id, status << 1 | phase."""
SGL = struct.Struct("<QQ")
"""One SGL descriptor: address, and length | type << 60 (NVME-7)."""
SGL_BYTES = 16
SGL_LENGTH, SGL_TYPE_SHIFT = 0xFFFF_FFFF, 60
SGL_DATA, SGL_SEGMENT, SGL_LAST_SEGMENT = 0x0, 0x2, 0x3
"""Types: bytes of data; more descriptors; the last of them."""


class Status(IntEnum):
    """Status codes, with their type in the third digit; the names are those of linux/nvme.h."""

    NVME_SC_SUCCESS = 0x0
    NVME_SC_INVALID_OPCODE = 0x1
    NVME_SC_INVALID_FIELD = 0x2
    NVME_SC_DATA_XFER_ERROR = 0x4
    NVME_SC_ABORT_REQ = 0x7
    NVME_SC_INVALID_NS = 0xB
    NVME_SC_SGL_INVALID_LAST = 0xD
    NVME_SC_SGL_INVALID_COUNT = 0xE
    NVME_SC_SGL_INVALID_DATA = 0xF
    NVME_SC_SGL_INVALID_TYPE = 0x11
    NVME_SC_PRP_INVALID_OFFSET = 0x13
    NVME_SC_CMD_INTERRUPTED = 0x21
    NVME_SC_LBA_RANGE = 0x80
    NVME_SC_CAP_EXCEEDED = 0x81
    NVME_SC_NS_NOT_READY = 0x82
    NVME_SC_RESERVATION_CONFLICT = 0x83
    NVME_SC_BAD_ATTRIBUTES = 0x180
    NVME_SC_INVALID_PI = 0x181
    NVME_SC_READ_ONLY = 0x182
    NVME_SC_ONCS_NOT_SUPPORTED = 0x183
    NVME_SC_ZONE_TOO_MANY_ACTIVE = 0x1BD
    NVME_SC_ZONE_TOO_MANY_OPEN = 0x1BE
    NVME_SC_WRITE_FAULT = 0x280
    NVME_SC_READ_ERROR = 0x281
    NVME_SC_GUARD_CHECK = 0x282
    NVME_SC_APPTAG_CHECK = 0x283
    NVME_SC_REFTAG_CHECK = 0x284
    NVME_SC_COMPARE_FAILED = 0x285
    NVME_SC_ACCESS_DENIED = 0x286
    NVME_SC_UNWRITTEN_BLOCK = 0x287
    NVME_SC_HOST_PATH_ERROR = 0x370
    NVME_SC_HOST_ABORTED_CMD = 0x371


class Entry(NamedTuple):
    """A submission queue entry, read."""

    opcode: int
    flags: int
    cid: int
    nsid: int
    prp1: int
    prp2: int
    slba: int
    nlb: int
    control: int

    @property
    def nbytes(self) -> int:
        """Bytes that the command moves; `nlb` counts blocks from 0."""
        return (self.nlb + 1) << 9
