"""Why two systems may come to different results: each rule that allows it, and how one sees that it was this one."""

import errno
from collections.abc import Callable
from typing import Any, NamedTuple

from labkit.errors import errno_name
from labkit.machine.kinds import table
from labkit.scenario import FOLIO_ORDER, Scenario
from labkit.units import PAGE_SIZE

_EIO, _EINVAL, _EOPNOTSUPP = errno_name(errno.EIO), errno_name(errno.EINVAL), errno_name(errno.EOPNOTSUPP)
_LATER = ("(D-14)", "(P2P-2)", "(SWI-4, D-9)")
"""What refuses memory after all has looked at its kind: encryption, the way to it, the device's mask."""
_PAGELESS = {"phyr", "premapped"}
"""Systems that need no struct page."""


class Came(NamedTuple):
    """What came of the IO in one system: bytes, or an errno such as '-EFAULT' and its sentence."""

    system: str
    result: int | str | None
    error: str = ""
    verified: bool = True

    @property
    def failed(self) -> bool:
        """Whether the IO was refused, or failed."""
        return isinstance(self.result, str)

    @property
    def at_start(self) -> bool:
        """Whether the system pins everything at the start of the IO."""
        return self.system in {"phyr", "unified", "premapped"}

    @property
    def of_memory(self) -> bool:
        """Whether the memory is what was refused: nobody could look it up, or no device could address it."""
        return self.failed and (self.error.startswith(("gup:", "mm:", "premapped: addr")) or "ITER-5" in self.error)


def differences(scenario: Scenario, reports: dict[str, dict[str, Any]]) -> list[tuple[str, bool]]:
    """Return (sentence, whether a rule allows it) for each system whose result is not that of the first, or is wrong.

    `reports`: what Machine.run returned, by system.
    """
    first, *others = [
        Came(name, report["result"], report["error"] or "", report["verified"]) for name, report in reports.items()
    ]
    told = []
    for other in others:
        if first.result != other.result:
            why = reason(scenario, first, other)
            said = f"{first.system} {first.result}, {other.system} {other.result}: "
            told.append((said + (why or "no rule allows this"), bool(why)))
        elif first.verified != other.verified:
            told.append((f"{first.system} and {other.system}: the bytes of one of them are wrong", False))
        elif first.result and not (first.failed or first.verified or scenario.hazard):
            told.append((f"{first.system} and {other.system}: the bytes of both are wrong", False))
    return told


def reason(scenario: Scenario, one: Came, other: Came) -> str:
    """Return why two results differ, by the rule that says they may; nothing where none does."""
    for rule, why in _RULES.items():
        if rule(scenario, one, other) or rule(scenario, other, one):
            return why.format(scenario.folio)
    return ""


def _kind(sc: Scenario, bad: Came, good: Came) -> bool:
    """Return whether only pages refuse memory of this kind, with the errno of its row."""
    later = any(rule in good.error for rule in _LATER) or sc.api == "io_uring-fixed"  # registered before any check
    reached = not good.failed or later
    refused = bad.of_memory and bad.system not in _PAGELESS and bad.result == f"-{_today(sc)}"
    return refused and good.system in _PAGELESS and reached


def _registered(_sc: Scenario, bad: Came, good: Came) -> bool:
    """Return whether device addresses cannot go there, where any other memory can."""
    refused = bad.system == "premapped" and bad.result == _EOPNOTSUPP and "(DMABUF-1" in bad.error
    return refused and good.system != "premapped"


def _long_term(sc: Scenario, bad: Came, good: Came) -> bool:
    """Return whether the memory is nothing that may be pinned for long, and be written to."""
    special = sc.folio not in FOLIO_ORDER or sc.buffer == "readonly"
    return bad.system == "premapped" and bad.of_memory and special and not good.failed


def _cpu(sc: Scenario, bad: Came, good: Came) -> bool:
    """Return whether encryption finds no mapping of what came as addresses."""
    return sc.stack == "crypt" and bad.system == "phyr" and bad.failed and "(D-14)" in bad.error and not good.failed


def _hole(sc: Scenario, bad: Came, good: Came) -> bool:
    """Return whether the memory is bad, of a read that finds nothing that is mapped, or less than all."""
    holes = sc.direct and sc.op == "read" and sc.extents in {"hole", "unwritten", "mixed"}
    return holes and bad.at_start and bad.of_memory and good.system == "page" and not good.failed


def _part(sc: Scenario, bad: Came, good: Came) -> bool:
    """Return whether the memory ends early, and who takes it bit by bit has moved what came before that."""
    by_parts = good.system == "page" or (good.system == "phyr" and sc.chunk > 0)
    moved = isinstance(good.result, int) and 0 < good.result < sc.size
    return sc.direct and bad.at_start and bad.of_memory and "ITER-5" not in bad.error and by_parts and moved


def _device(sc: Scenario, start: Came, page: Came) -> bool:
    """Return whether the memory is off the mask inside one page: 6.18 asks the device, which takes it or not."""
    inside = sc.kernel == "6.18" and sc.direct and sc.skew + sc.size <= PAGE_SIZE
    off = start.at_start and start.result == _EINVAL and "ITER-5" in start.error
    return inside and off and page.system == "page" and (page.result == _EIO or not page.failed)


def _cached(sc: Scenario, start: Came, page: Came) -> bool:
    """Return whether the memory is bad, and a write of half a shared block copies it into the page cache."""
    half = sc.direct and sc.op == "write" and sc.extents == "shared" and (sc.offset | sc.size) % PAGE_SIZE > 0
    return half and start.at_start and start.of_memory and page.system == "page" and not page.failed


def _order(sc: Scenario, start: Came, page: Came) -> bool:
    """Return whether both refuse it, and the memory was what the one looked at first."""
    refused = page.system == "page" and page.failed and page.result != _EIO
    return sc.direct and refused and start.at_start and start.of_memory


def _today(sc: Scenario) -> str:
    """Return what upstream makes of IO with the memory of `sc`: 'works', or an errno such as 'EFAULT'."""
    if sc.folio in FOLIO_ORDER:
        return "works"
    row = next(row for row in table() if row.name == sc.folio)
    return row.today.read if sc.op == "read" else row.today.write


_RULES: dict[Callable[[Scenario, Came, Came], bool], str] = {
    _kind: "{} memory is nothing that pages can do IO with (data/kinds.toml)",
    _registered: "what is mapped beforehand goes to the raw device of NVMe alone, and is not bounced (DMABUF-1)",
    _long_term: "a registered buffer is pinned for the long term, and to be written to (REG-1)",
    _cpu: "the CPU must read every byte, and has no mapping of {} memory by its address (D-14)",
    _hole: "who pins at the start looks at memory that a hole never touches (D-5, DIO-15)",
    _part: "who pins at the start fails before anything is issued, who pins for each bio has moved a part (D-4)",
    _device: "6.18 alone does not look at memory inside one page before it is with the device (R8, ITER-5)",
    _cached: "who pins at the start looks at memory that the page cache will copy (D-6, DIO-8)",
    _order: "both refuse it, and who pins at the start looks at the memory before the file (D-6)",
}
"""The rules, each asked both ways around, the first that holds is told; {} is the kind of memory."""
