"""io_uring as the kernel has it: its calls, their numbers and structs (uapi/linux/io_uring.h)."""

import ctypes
import os

import numpy as np
from numpy.typing import NDArray

from labkit.errors import NotAllowed

SETUP, ENTER, REGISTER = 425, 426, 427
"""The three calls, whose numbers are the same on every architecture (Linux 5.1)."""
COOP_TASKRUN = 1 << 8
"""Completions wait for the next call, and do not interrupt this thread (Linux 5.19)."""
GETEVENTS = 1
REGISTER_BUFFERS, UNREGISTER_BUFFERS, REGISTER_FILES, UNREGISTER_FILES = range(4)
READV, WRITEV = 1, 2
OPCODES = ((22, 23), (4, 5))
"""READ and WRITE, and READ_FIXED and WRITE_FIXED of registered memory."""
SQES = 0x1000_0000
"""Where in the ring's file the entries begin (IORING_OFF_SQES)."""
SQE = np.dtype([
    ("opcode", "u1"), ("flags", "u1"), ("ioprio", "<u2"), ("fd", "<i4"), ("off", "<u8"), ("addr", "<u8"),
    ("len", "<u4"), ("rw_flags", "<u4"), ("user_data", "<i8"), ("buf_index", "<u2"), ("rest", "V22"),
])  # fmt: skip
"""struct io_uring_sqe, as far as reads and writes fill it in."""
CQE = np.dtype([("user_data", "<i8"), ("res", "<i4"), ("flags", "<u4")])

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.syscall.argtypes = [ctypes.c_long] * 7


def syscall(number: int, *args: int) -> int:
    """Return what call `number` says to `args`; where that is below 0, ctypes.get_errno() tells why."""
    return int(_libc.syscall(number, *args, *(0,) * (6 - len(args))))


def setup(entries: int) -> tuple[int, NDArray[np.uint32]]:
    """Return the fd of a new ring, and its struct io_uring_params. Raises NotAllowed."""
    for flags in (COOP_TASKRUN, 0):
        params = np.zeros(30, np.uint32)
        params[2] = flags
        fd = syscall(SETUP, entries, params.ctypes.data)
        if fd >= 0:
            return fd, params
    number = ctypes.get_errno()
    rule = f"is not to be had: {os.strerror(number)}; see kernel.io_uring_disabled, or use queue depth 1"
    raise NotAllowed("io_uring", f"a ring of {entries}", rule, number)
