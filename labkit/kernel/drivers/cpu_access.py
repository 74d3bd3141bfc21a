"""Drivers whose CPU reads and writes the data: only memory that is mapped for it will do (D-14)."""

import errno

from labkit.errors import SyscallError
from labkit.kernel.drivers.ops import Request

MAPPED = ("ram", "mmio")
"""RAM is always mapped for the CPU; a BAR is with ioremap. Another machine's memory, and DMA addresses, are not."""


def check_mapped(name: str, rq: Request) -> None:
    """Raise SyscallError EINVAL where the CPU cannot reach the memory of `rq`, in the name of the driver `name`."""
    if rq.nbytes and rq.cls.kind not in MAPPED:
        what = f"{rq.nbytes} bytes of {rq.cls.kind} memory of {rq.cls.provider or 'nobody'}"
        raise SyscallError(name, what, "are not mapped for the CPU, which must copy them (D-14)", errno.EINVAL)
