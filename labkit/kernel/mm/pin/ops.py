"""What a pin is made of: any policy counts somewhere, or nowhere, and says what that keeps from happening."""

import errno
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

from labkit.errors import SyscallError
from labkit.kernel.mm.frames.folios import Folios
from labkit.scatter.memory_class import RAM
from labkit.scatter.phyr import Phyrs
from labkit.units import PhysAddr

CACHE_LINE = 64
Event = Literal["munmap", "migration", "fork", "truncate", "unplug", "reclaim", "ksm"]
"""What may happen to memory while a device uses it."""


class Cost(NamedTuple):
    """What a pin, or letting go of it, costs: locked operations, cache lines written, struct pages.

    `bytes_held`: what is kept in mind of it meanwhile.
    """

    atomics: int
    cache_lines: int
    struct_pages: int
    bytes_held: int


class Memory(Protocol):
    """As much of a task's memory as a policy sees."""

    @property
    def folios(self) -> Folios:
        """Return the folios of the machine."""


class PinPolicy(Protocol):
    """A way to count a pin. What is pinned is unpinned as the same ranges, so that the counts come out even."""

    name: str
    label: str
    """Whose idea it is: upstream, proposed or ours."""
    blocks: Mapping[Event, str]
    """What cannot happen to the memory meanwhile, and why."""

    def pin(self, mm: Memory, phyrs: Phyrs) -> Cost:
        """Count `phyrs`. Raises SyscallError EFAULT for memory that cannot be counted so; nothing is counted then."""

    def unpin(self, mm: Memory, phyrs: Phyrs) -> Cost:
        """Take the count off again."""


def has_folios(folios: Folios, phyrs: Phyrs) -> bool:
    """Return whether `phyrs` have struct pages: RAM has, other classes where somebody made some (MM-27)."""
    at = 0
    for cls, nbytes in phyrs.classes:
        if cls != RAM and folios.phys_to_folio(PhysAddr(phyrs.slice(at, 1).vecs[0][0])) is None:
            return False
        at += nbytes
    return True


def need_folios(policy: str, folios: Folios, phyrs: Phyrs) -> None:
    """Raise SyscallError EFAULT in the name of `policy` for memory that has nothing to count on."""
    if not has_folios(folios, phyrs):
        rule = f"has no struct page: pin={policy} has nothing to count on (PHYR-28)"
        raise SyscallError("gup", f"memory at {phyrs.vecs[0][0]:#x}", rule, errno.EFAULT)
