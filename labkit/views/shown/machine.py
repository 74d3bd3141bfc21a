"""What is shown of a machine, of a task on it and of a buffer of that: read from their public parts, engine unseen."""

from typing import Any

from labkit.units import PAGE_SHIFT, human_bytes, human_ns
from labkit.views.shown.runs import tags
from labkit.views.shown.sheet import Sheet
from labkit.views.shown.strip import Piece, strip
from labkit.views.shown.table import Cell, table
from labkit.views.words import address, count

_RUN = ("user address", "physical address", "bytes", "size")


def machine(found: Any) -> Sheet:
    """Return what is shown of a labkit.machine.Machine: the way of its bytes, and what it holds now."""
    asked, now, meta = found.scenario, found.snapshot(), found.trace.meta
    pinned = sum(n for pin in now.pins for _, n in pin.ranges)
    facts = [
        ("memory", f"{human_bytes(asked.ram)}, {human_bytes(found.buddy.nr_free << PAGE_SHIFT)} free"),
        ("fragmentation", f"{asked.fragmentation:g}"),
        ("tasks", f"{len(found.mms):,}"),
        ("pinned", f"{human_bytes(pinned)} by {count(len(now.pins), 'pin')}"),
        ("in flight", count(len(now.tags), "request")),
        ("clock", f"{human_ns(now.t)} of {meta['device']['clock']} time, {len(found.trace):,} records"),
        ("seed", str(asked.seed)),
    ]
    facts += [("last IO", str(found.error))] if found.error else []
    title = f"A machine: system {asked.system}, device {found.disk}, {human_bytes(asked.ram)} of memory"
    return Sheet(title, tags(meta), _way(found, meta), tuple(facts))


def _way(found: Any, meta: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what the bytes of an IO go through, from the system call to the device."""
    asked = found.scenario
    place = asked.fs if asked.fs != "raw" else "raw device"
    dma = f"IOMMU {asked.iommu}" if asked.backend == "iommu" else asked.backend
    return (
        ("syscall", asked.api),
        ("dio", f"{asked.system}, pins: {found.currency.policy}"),
        ("fs", place if asked.direct else f"{place}, page cache"),
        ("block", f"scheduler {asked.sched}"),
        *((("driver", asked.device),) if found.maps is None else (("driver", asked.device), ("dma", dma))),
        (found.disk, f"{human_bytes(meta['device']['nbytes'])}, {meta['device']['clock']}"),
    )


def task(found: Any) -> Sheet:
    """Return what is shown of a labkit.task.Task: its mappings, how much of each is present, and its open files."""
    vmas = list(found.mm.space.vmas)
    runs = list(found.mm.translations())
    here = {vma.start: sum(run.len for run in runs if vma.start <= run.va < vma.end) for vma in vmas}
    size = human_bytes(sum(vma.end - vma.start for vma in vmas))
    rows = table(
        "Mappings",
        ("user address", "size", "rights", "what", "present"),
        vmas,
        lambda vma: (
            address(vma.start),
            human_bytes(vma.end - vma.start),
            vma.prot,
            vma.name,
            human_bytes(here[vma.start]),
        ),
    )
    title = f"Task {found.mm.task}: {count(len(vmas), 'mapping')}, {size}"
    return Sheet(title, facts=(("open files", _files(found.fds)),), tables=(rows,) if vmas else ())


def _files(fds: tuple[int, ...]) -> str:
    return ", ".join(f"fd {fd}" for fd in fds) or "none"


def buffer(found: Any) -> Sheet:
    """Return what is shown of a labkit.task.buffer.Buffer: its pages, and where each run of them lies."""
    present = sum(nbytes for _, _, nbytes in found.runs)
    facts = (
        ("address", f"{address(found.address)}, rights {found.prot}"),
        ("present", f"{human_bytes(present)} in {count(len(found.runs), 'physical range')}"),
    )
    pieces = [Piece(nbytes, f"{human_bytes(nbytes)} at {address(pa)}") for _, pa, nbytes in found.runs]
    if present < found.nbytes:
        pieces.append(Piece(found.nbytes - present, f"{human_bytes(found.nbytes - present)} not present", "gone"))
    rows = table("Ranges", _RUN, found.runs, _run)
    title = f"A buffer of {human_bytes(found.nbytes)}: {found.name}"
    drawn = strip(pieces, len(found.runs), "physical range")
    return Sheet(title, facts=facts, strip=drawn, tables=(rows,) if found.runs else ())


def _run(run: tuple[int, int, int]) -> tuple[Cell, ...]:
    va, pa, nbytes = run
    return address(va), address(pa), nbytes, human_bytes(nbytes)
