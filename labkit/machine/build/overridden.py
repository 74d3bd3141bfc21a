"""The limits of a device's queue, as somebody else would have them."""

import errno
from dataclasses import fields, replace

from labkit.errors import BadInput
from labkit.kernel.block.limits import QueueLimits
from labkit.units import PAGE_SIZE, SECTOR_SHIFT

_SECTORS = {"max_sectors", "max_hw_sectors", "max_user_sectors"}
_ATOMIC = {"atomic_write_unit_min", "atomic_write_unit_max", "atomic_write_boundary"}


def overridden(limits: QueueLimits, values: dict[str, int]) -> QueueLimits:
    """Return `limits` with other `values`, by name, or max_sectors_kb; 0 is the kernel's own default.

    Raises BadInput EINVAL for a name that is none, a mask that is none, and what the kernel refuses (LIM-1..LIM-4).
    """
    known = {field.name for field in fields(QueueLimits)}
    new = {name: value for name, value in values.items() if name != "max_sectors_kb"}
    if "max_sectors_kb" in values:
        new["max_sectors"] = values["max_sectors_kb"] * 2
    for name in new:
        if name not in known:
            raise BadInput("limits", f"{name!r}"[:60], f"is not one of {', '.join(sorted(known))}", errno.EINVAL)
    if not new:
        return limits
    _check_limits(limits, new)
    if "logical_block_size" in new:
        new.setdefault("physical_block_size", max(limits.physical_block_size, new["logical_block_size"]))
    return replace(limits, **new)  # type: ignore[arg-type]  # flags of a queue are given as 0 and 1


def _check_limits(limits: QueueLimits, new: dict[str, int]) -> None:
    """Raise BadInput EINVAL for a limit that no device like this one has, whose own are `limits`."""
    block = new.get("logical_block_size") or limits.logical_block_size
    for name, value in new.items():
        rule = _wrong(limits, name, value)
        if name == "chunk_sectors" and 0 < block < 1 << 32 and (value << SECTOR_SHIFT) % block:
            rule = f"is no whole number of logical blocks of {block} bytes (LIM-1)"
        if rule:
            raise BadInput("limits", f"{name}={value}", rule, errno.EINVAL)


def _wrong(limits: QueueLimits, name: str, value: int) -> str:
    """Return the rule that `value` breaks, "" for none; QueueLimits looks at what no device has."""
    if name in _SECTORS and limits.max_hw_sectors < value < 1 << 32:
        return f"is more than the {limits.max_hw_sectors} that the device takes in one command (LIM-2)"
    if name in _ATOMIC and 0 < value < 1 << 32 and value & (value - 1):
        return "is not a power of two (SPLIT-2)"
    own = limits.virt_boundary_mask if name == "virt_boundary_mask" else 0
    if value >= 0 and own & ~value:
        return f"is looser than the device's own {own}, whose lists cannot tell of gaps (NVME-2)"
    if name == "nr_requests" and value > limits.nr_requests:
        return f"is more than the {limits.nr_requests} that the queue of the device has (MQ-2)"
    if name == "max_segment_size" and 0 < value < PAGE_SIZE:  # the kernel lets a stack of devices have that
        return "is less than a page (LIM-3)"
    return ""
