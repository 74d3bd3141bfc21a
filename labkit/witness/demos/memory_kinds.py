"""Memory that the CPU reads and direct IO refuses: [vvar], a mapping of frames, and memfd_secret (MISS-3)."""

from labkit.witness import memory
from labkit.witness.demos.demo import Answers, Demo, Seen

_KINDS = ("4KiB", "zero", "memfd", "secretmem", "vvar")


def kernel() -> Seen:
    """Write a page of each kind, with O_DIRECT and without. Raises NotAllowed."""
    found = memory.ask()
    rows = [[each.kind, each.kernel, each.buffered] for each in found]
    return Seen({_asked(each.kind): each.kernel for each in found}, ("memory", "O_DIRECT", "buffered"), rows)


def model() -> Answers:
    """Return the same of the simulated machine."""
    return {_asked(kind): answer.page for kind in _KINDS for answer in memory.answers([(kind, 0, 0)])}


def _asked(kind: str) -> str:
    return f"O_DIRECT write of a page of {kind}"


DEMO = Demo(
    "memory-kinds",
    "Memory that direct IO refuses",
    "A page is written to a file with O_DIRECT and without: from ordinary memory, [vvar] and memfd_secret. What fails?",
    "Writes 4 KiB to a temporary file of the lab's own, which has no name and goes at the end. Reads [vvar], as every "
    "program does that asks for the time.",
    "A copy needs an address, direct IO a struct page: what has none is refused, though a physical range would do.",
    kernel,
    model,
)
