"""Settings of this machine, files of one word or of one chosen word: read and written, those that may be changed."""

import errno
import os
import re

from labkit.errors import BadInput

_POOL = r"nr(_overcommit)?_hugepages"
_PATHS = (
    r"/sys/block/loop\d+/queue/(scheduler|max_sectors_kb|nomerges)",
    rf"/proc/sys/vm/{_POOL}",
    rf"/sys/kernel/mm/hugepages/hugepages-\d+kB/{_POOL}",
    r"/sys/kernel/mm/transparent_hugepage/(hugepages-\d+kB/)?(enabled|shmem_enabled)",
    r"/sys/kernel/mm/transparent_hugepage/(defrag|khugepaged/\w+)",
)
_MAY = re.compile("|".join(f"(?:{path})" for path in _PATHS), re.ASCII)
_VALUE = re.compile(r"[\w+-]{1,32}", re.ASCII)
_CHOSEN = re.compile(rb"\[([^]]*)\]")
_BYTES = 4096


def may_change(path: str, value: str) -> bool:
    """Return whether `path` is one of the settings that labkit changes, and `value` one word."""
    return bool(_MAY.fullmatch(path) and _VALUE.fullmatch(value))


def check(path: str, value: str) -> None:
    """Raise BadInput unless `path` may be set to `value`."""
    if not may_change(path, value):
        rule = "is none of the settings and words of labkit: scheduler, max_sectors_kb, nomerges, huge pages"
        raise BadInput("undo", f"{path[:200]!r} = {value[:80]!r}", rule, errno.EINVAL)


def opened(path: str) -> int:
    """Return an fd for `read` and `write`. Raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def read(fd: int) -> str:
    """Return what the setting says: of 'always [madvise] never' the chosen word. Raises OSError."""
    text = os.pread(fd, _BYTES, 0)
    chosen = _CHOSEN.search(text)
    return (chosen[1] if chosen else text.strip()).decode("ascii", "replace")


def write(fd: int, value: str) -> None:
    """Let the setting say `value`. Raises OSError."""
    os.pwrite(fd, value.encode("ascii"), 0)
