"""What this process holds in memory: the bytes of simulated memory, and everything else."""

import re
from pathlib import Path
from typing import NamedTuple

_ARENA = 256 << 20
"""Mappings of this size and more are arenas: nothing else here is as large."""
_MAPPING = re.compile(r"Size: +(\d+) kB\n(?:.*\n)*?Rss: +(\d+) kB")


class Resident(NamedTuple):
    """Bytes resident: the most there ever were, those of arenas now, and the difference, interpreter included."""

    peak: int
    arenas: int
    rest: int


def resident(proc: Path = Path("/proc/self")) -> Resident | None:
    """Return what is resident, measured; None where the kernel does not tell."""
    try:
        peak = re.search(r"VmHWM:\s+(\d+) kB", (proc / "status").read_text())
        maps = _MAPPING.findall((proc / "smaps").read_text())
    except OSError:
        return None
    if peak is None:
        return None
    arenas = sum(int(rss) << 10 for size, rss in maps if int(size) << 10 >= _ARENA)
    most = int(peak[1]) << 10
    return Resident(most, arenas, most - arenas)
