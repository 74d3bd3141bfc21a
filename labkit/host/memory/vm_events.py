"""What happened to memory since boot, in the whole machine, by the names of /proc/vmstat."""

import errno
from collections.abc import Iterable
from pathlib import Path

from labkit.errors import NotAllowed

_VMSTAT = Path("/proc/vmstat")


def counters(names: Iterable[str], path: Path = _VMSTAT) -> tuple[int, ...]:
    """Return the counters `names`. Raises NotAllowed where the kernel has one of them not, or no procfs is mounted."""
    try:
        found = dict(line.split() for line in path.read_text("ascii").splitlines())
        return tuple(int(found[name]) for name in names)
    except OSError as no:
        rule = f"cannot be read, {no.strerror}: mount procfs"
        raise NotAllowed("vmstat", str(path), rule, no.errno or errno.EIO) from no
    except KeyError as no:
        rule = "is not in /proc/vmstat: run a kernel with CONFIG_TRANSPARENT_HUGEPAGE"
        raise NotAllowed("vmstat", str(no.args[0]), rule, errno.ENOSYS) from None
