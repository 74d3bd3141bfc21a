"""The kernel's own counts become numbers: pages pinned and let go of, in the whole machine."""

import errno
import re
from pathlib import Path
from typing import NamedTuple

from labkit.errors import NotAllowed

_COUNTER = re.compile(r"^nr_foll_pin_(acquired|released) (\d+)$", re.MULTILINE)
_PROC = Path("/proc")


class Pins(NamedTuple):
    """Pages of 4 KiB that were `acquired` and `released` by pins since boot, by everybody (MM-17).

    Each CPU hands its count on once it has about 30. `exact`: whether all of them were told to just now.
    """

    acquired: int
    released: int
    exact: bool


def pins(proc: Path = _PROC) -> Pins:
    """Return the counters. Raises NotAllowed where the kernel has none of them."""
    exact = _refresh(proc)
    try:
        found = dict(_COUNTER.findall((proc / "vmstat").read_text()))
    except OSError as no:
        rule = f"cannot be read, {no.strerror}: mount procfs"
        raise NotAllowed("vmstat", str(proc / "vmstat"), rule, no.errno or errno.EIO) from no
    if len(found) != 2:  # noqa: PLR2004 - acquired and released
        rule = "are not in /proc/vmstat: run Linux 5.7 or newer, or go without counters of pins"
        raise NotAllowed("vmstat", "nr_foll_pin_acquired and nr_foll_pin_released", rule, errno.ENOSYS)
    return Pins(int(found["acquired"]), int(found["released"]), exact)


def _refresh(proc: Path) -> bool:
    """Let every CPU hand on what it counted; return False where this user may not ask for it."""
    try:
        (proc / "sys/vm/stat_refresh").read_bytes()
    except OSError:
        return False
    return True
