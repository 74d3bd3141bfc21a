"""What a scenario wants to break, and when: KIND@EVENT."""

import errno
from collections.abc import Callable
from typing import NamedTuple

from labkit.errors import ScenarioError
from labkit.scenario import Scenario
from labkit.trace.events import RECORDS

_NO_MEDIUM = {"loop": "the medium of loop is a real file"}
_ALL_BITS = 64
"""Bits of an address; with fewer, memory may be out of a device's reach, and bounced."""
_NO_BUS = {name: f"{name} has no bus between its memory and it" for name in ("pmem", "null", "delay", "loop")}


class Asked(NamedTuple):
    """A fault of `kind` is to begin with the first record named `event` of the first IO."""

    kind: str
    event: str


def asked(scenario: Scenario) -> tuple[Asked, ...]:
    """Return the faults of `scenario`. Raises ScenarioError for a name that is none, and for what cannot be."""
    return tuple(_parse(text, scenario) for text in scenario.faults)


def _parse(text: str, scenario: Scenario) -> Asked:
    kind, at, event = text.partition("@")
    if kind not in MISFITS:
        raise _refused(text, f"is none of {', '.join(sorted(MISFITS))}, followed by @EVENT")
    if not at or event not in RECORDS:
        raise _refused(text, "names no record of the trace behind its @, such as DeviceStart or BlockRqIssue")
    if misfit := MISFITS[kind](scenario):
        raise _refused(text, f"cannot be: {misfit}")
    return Asked(kind, event)


def _refused(text: str, rule: str) -> ScenarioError:
    return ScenarioError("fault", repr(text[:60]), rule, errno.EINVAL)


def _anywhere(_scenario: Scenario) -> str:
    return ""


def _has_commands(sc: Scenario) -> str:
    return "pmem is memory, and takes no commands" if sc.device == "pmem" else ""


def _interrupts(sc: Scenario) -> str:
    return "pmem is memory, and interrupts nobody" if sc.device == "pmem" else ""


def _writes(sc: Scenario) -> str:
    if "RWF_APPEND" in sc.flags:
        return "it is looked for at the offset, and RWF_APPEND writes elsewhere"
    return _NO_MEDIUM.get(sc.device, "") if sc.op == "write" else "a read tears nothing, and op=read"


def _translates(sc: Scenario) -> str:
    return _NO_BUS.get(sc.device, "") or ("" if sc.backend == "iommu" else f"dma={sc.backend} has no IOMMU")


def _bounces(sc: Scenario) -> str:
    may = sc.backend in {"swiotlb", "xen"} or (sc.backend == "direct" and sc.device_mask < _ALL_BITS)
    return _NO_BUS.get(sc.device, "") or ("" if may else f"dma={sc.backend} needs no bounce buffer")


def _of_a_device(sc: Scenario) -> str:
    return "" if sc.folio == "gpu" else f"folio={sc.folio} is no device's memory that can be revoked, as gpu is"


MISFITS: dict[str, Callable[[Scenario], str]] = {
    "media-error": _anywhere, "timeout": _has_commands, "lost-interrupt": _interrupts, "torn-write": _writes,
    "short-transfer": _anywhere, "iommu-fault": _translates, "iova-exhausted": _translates, "swiotlb-full": _bounces,
    "queue-full": _has_commands, "unplug": _anywhere, "revoke": _of_a_device, "wedged": _has_commands,
}  # fmt: skip
"""Every kind of fault, and why it cannot be in a scenario: "" where it can."""
