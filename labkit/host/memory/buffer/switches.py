"""What this machine says about huge pages, and what it has to say while a buffer is touched.

Each setting is changed for as long as that takes, and through Undo, which knows it even after a kill.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.errors import NotAllowed
from labkit.host.undo import Undo, private
from labkit.units import human_bytes

PMD_SIZE = 2 << 20
"""Bytes of a huge page: what one entry of the last directory of page tables maps, on x86-64."""
_THP = Path("/sys/kernel/mm/transparent_hugepage")
_POOL = Path(f"/sys/kernel/mm/hugepages/hugepages-{PMD_SIZE >> 10}kB")
_ON = {"always", "madvise"}
_SHARED = {"always", "within_size", "advise"}
Settings = dict[Path, str]


@contextmanager
def switched(undo: Undo, wanted: Callable[[], Settings]) -> Iterator[None]:
    """Let the settings that `wanted` returns hold within it, and what they said before afterwards.

    One process at a time does so: else one would take for given what another has changed for a moment. Raises
    NotAllowed where this user may change none, or the kernel has no huge pages.
    """
    with _alone():
        before: Settings = {}
        try:
            for path, value in wanted().items():
                before[path] = undo.put(path, value)
            yield
        finally:
            for path, value in reversed(before.items()):
                undo.put(path, value)


def anonymous(nbytes: int) -> Settings:
    """Return what has to change so that memory under MADV_HUGEPAGE comes in folios of `nbytes`, not in larger ones.

    Raises NotAllowed where the kernel has no such folios.
    """
    sizes = {path: _bytes(path.parent) for path in sorted(_THP.glob("hugepages-*/enabled"))}
    if not sizes and nbytes == PMD_SIZE:  # before Linux 6.8 there is one size, and one setting
        return {} if _said(_THP / "enabled") in _ON else {_THP / "enabled": "madvise"}
    if nbytes not in sizes.values():
        rule = "are none of this kernel's: run Linux 6.8 or newer with transparent huge pages"
        raise NotAllowed("buffer", f"folios of {human_bytes(nbytes)}", rule, errno.EOPNOTSUPP)
    larger: Settings = {path: "never" for path, size in sizes.items() if size > nbytes and _effective(path) != "never"}
    mine = next(path for path, size in sizes.items() if size == nbytes)
    return larger if _effective(mine) in _ON else {**larger, mine: "madvise"}


def shared() -> Settings:
    """Return what has to change so that a memfd under MADV_HUGEPAGE comes in folios of PMD_SIZE. Raises NotAllowed."""
    whole, mine = _THP / "shmem_enabled", _THP / f"hugepages-{PMD_SIZE >> 10}kB/shmem_enabled"
    if (said := _said(whole)) == "deny":
        raise NotAllowed("buffer", str(whole), f"says {said}: echo never > {whole}", errno.EPERM)
    knob = mine if mine.exists() else whole  # a setting for each size came with Linux 6.10
    return {} if _effective(knob) in _SHARED else {knob: "advise"}


def hugetlb(nbytes: int) -> Settings:
    """Return what has to change so that `nbytes` of hugetlb memory can be mapped. Raises NotAllowed.

    What the pool has not free is let be had beyond it: such pages come with a mapping, go with it, and leave
    nr_hugepages as it is.
    """
    try:
        free, held, beyond, most = (
            int((_POOL / name).read_text("ascii"))
            for name in ("free_hugepages", "resv_hugepages", "surplus_hugepages", "nr_overcommit_hugepages")
        )
    except OSError as bad:
        raise NotAllowed("buffer", str(_POOL), "is not there: the kernel has no hugetlb", errno.EOPNOTSUPP) from bad
    needed = beyond + -(-nbytes // PMD_SIZE) - (free - held)
    return {} if needed <= max(most, beyond) else {_POOL / "nr_overcommit_hugepages": str(needed)}


@contextmanager
def _alone() -> Iterator[None]:
    """Keep every other process out of here meanwhile. Raises NotAllowed in a kernel without huge pages."""
    try:
        lock = os.open(_THP / "enabled", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as bad:
        raise NotAllowed("buffer", str(_THP), "is not there: the kernel has no huge pages", errno.EOPNOTSUPP) from bad
    try:
        private.lock(lock, str(_THP / "enabled"))
        yield
    finally:
        os.close(lock)


def _bytes(folder: Path) -> int:
    """Return 65536 for hugepages-64kB."""
    return int(re.sub(r"\D", "", folder.name)) << 10


def _effective(path: Path) -> str:
    """Return what the setting `path` of one size comes to, where it may inherit that of all."""
    said = _said(path)
    return _said(_THP / path.name) if said == "inherit" else said


def _said(path: Path) -> str:
    """Return 'madvise' for a file that reads 'always [madvise] never'."""
    found = re.search(r"\[(\w+)\]", path.read_text("ascii"))
    return found[1] if found else ""
