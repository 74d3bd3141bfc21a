"""Faults: pages that are missed are brought by what is behind the mapping, pages that are shared are copied."""

import errno
from collections.abc import Callable

from labkit.errors import SyscallError
from labkit.hardware.clock import Steps
from labkit.kernel.mm.fault.cow import do_wp_page
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import PAGE_RW
from labkit.kernel.mm.space.vma import VMA
from labkit.units import PAGE_SIZE


class FaultRetry(SyscallError):
    """What a fault wants is on its way from a device: `wait`, then fault again (VM_FAULT_RETRY, MM-11)."""

    wait: Callable[[], Steps]


def handle_mm_fault(mm: Mm, vma: VMA, first: int, last: int, *, write: bool = True) -> int:
    """Make entries [first, last) of `vma` present, and writable for a `write`; return how many folios came for it.

    Raises SyscallError EFAULT without the right or where what is behind the mapping has nothing there (SIGBUS), ENOMEM
    with no frame left, FaultRetry: what came before stays mapped. What has any right may be read (vma_is_accessible).
    """
    if vma.prot == "---" or (write and "w" not in vma.prot):
        addr = vma.start + first * PAGE_SIZE
        rule = "may not be touched" if vma.prot == "---" else "may not be written"
        raise SyscallError("mm", f"addr={addr:#x}", rule, errno.EFAULT)
    came = 0
    for lo, hi in vma.table.gaps(first, last):
        came += vma.ops.fault(mm, vma, lo, hi, write=write)
    at = vma.table.absent(first, last, PAGE_RW) if write else last
    while at < last:
        came += do_wp_page(mm, vma, at)
        at = vma.table.absent(at + 1, last, PAGE_RW)
    return came
