"""What is shown of the witness: a capture, what is predicted of it, how well, and what this machine allows."""

from collections.abc import Iterator
from typing import Any

from labkit.units import PAGE_SHIFT, PAGE_SIZE, SECTOR_SHIFT, human_bytes, human_ns
from labkit.views.shown.sheet import Sheet
from labkit.views.shown.strip import Piece, strip
from labkit.views.shown.table import Cell, table
from labkit.views.words import address, count, errno_name

_MOST_LINES = 10
"""Differences that are told."""


def capture(found: Any) -> Sheet:
    """Return what is shown of a labkit.witness.Capture: what was asked, where its pages lay, what was seen."""
    rows = found.layout.before if found.layout.after is None else found.layout.after
    pieces = (Piece(n * PAGE_SIZE, _frames(pfn, n), "ram" if pfn >= 0 else "gone") for _, pfn, n in rows)
    limits = [(name, str(value)) for name, value in found.limits.items() if name != "note"]
    bios = table("Bios", ("sector", "size", "vectors"), found.bios or (), _bio)
    tables = (bios, table("Limits of the queue", ("limit", "value"), limits, tuple))
    return Sheet(
        f"Capture {found.id}",
        (f"recorded {found.date or ''}".strip(), f"Linux {found.kernel}"),
        facts=tuple(_facts(found, rows)),
        strip=strip(pieces, len(rows), "page run"),
        tables=tuple(each for each in tables if each.rows),
    )


def _facts(found: Any, rows: Any) -> Iterator[tuple[str, str]]:
    """Yield what was asked, of what, and what came of it."""
    more = len(found.io) - 1
    yield "asked", _asked(found.io[0]) + (f", and {count(more, 'IO')} more" if more else "")
    yield "device", _device(found.device)
    yield "buffer", _layout(sum(n for *_, n in rows), len(rows), len(found.layout.large_folios))
    yield "result", _results(found.result)
    yield "seen", f"{count(len(found.bios or ()), 'bio')}, {count(len(found.events or ()), 'event')}"
    yield "bytes", {None: "not compared", True: "every one compared", False: "WRONG"}[found.verified]
    if found.duration_ns:
        yield "took", human_ns(found.duration_ns)
    if found.note:
        yield "note", found.note


def _layout(pages: int, runs: int, large: int) -> str:
    return f"{count(pages, 'page')} in {count(runs, 'run')}, {count(large, 'large folio')}"


def _asked(io: Any) -> str:
    nbytes = sum(n for _, n in io.iov)
    return f"{io.api} of {human_bytes(nbytes)} at byte {io.pos:,}" + (f", {io.rwf}" if io.rwf else "")


def _device(device: Any) -> str:
    what = f"{device.name or 'a device'} of {human_bytes(device.size_bytes)}"
    return f"a file on {device.fs or 'a filesystem'}, {what}" if device.path == "iomap" else what


def _results(results: Any) -> str:
    return ", ".join(
        f"{each:,} bytes" if isinstance(each, int) and each >= 0 else _errno(each) for each in results or ()
    )


def _errno(result: int | str) -> str:
    return errno_name(result) if isinstance(result, int) else result


def _frames(pfn: int, pages: int) -> str:
    size = human_bytes(pages << PAGE_SHIFT)
    return f"{size} from PFN {pfn:#x} on" if pfn >= 0 else f"{size} without a frame"


def _bio(bio: Any) -> tuple[Cell, ...]:
    return bio.get("sector"), human_bytes(int(bio.get("bytes", 0))), len(bio.get("bvecs", ()))


def prediction(found: Any) -> Sheet:
    """Return what is shown of a labkit.witness.predict.Prediction: bios, requests, and why each split."""
    proven = "measured on this kernel" if found.proven else f"not measured on this kernel: the rules of {found.kernel}"
    facts = (
        ("result", _results(found.result)),
        ("rules", f"kernel {found.kernel}, {proven}" if found.proven else proven),
        ("order", "certain" if found.ordered else "not certain: tags run out, or a scheduler sorts (R15, R16)"),
    )
    bios = table("Bios", ("sector", "size", "vectors", "first at"), found.bios, _predicted)
    requests = table(
        "Requests", ("sector", "size"), found.requests, lambda row: (row[0], human_bytes(row[1] << SECTOR_SHIFT))
    )
    whys = table("Splits", ("rule", "why"), found.whys, tuple)
    numbers = ((found.bios, "bio"), (found.requests, "request"), (found.splits, "split"))
    title = ", ".join(count(len(each), noun) for each, noun in numbers)
    return Sheet(
        f"Prediction: {title}", facts=facts, tables=tuple(each for each in (bios, requests, whys) if each.rows)
    )


def _predicted(bio: Any) -> tuple[Cell, ...]:
    sector, vecs = bio
    first = address(vecs[0][0]) if vecs and vecs[0][0] is not None else None
    return sector, human_bytes(sum(n for _, n in vecs)), len(vecs), first


def outcome(found: Any) -> Sheet:
    """Return what is shown of a labkit.witness.outcome.Outcome: which parts of a prediction were exact."""
    parts = list(found.parts.items())
    rows = table("Parts", ("part", "prediction"), parts, lambda row: (row[0], "✓ exact" if row[1] else "✗ differs"))
    facts = (
        (
            "asked",
            f"{found.api} of {human_bytes(found.size)}, buffer {found.buffer}",
        ),
        ("result", _results(found.result)),
        ("others", f"{count(found.foreign, 'event')} of somebody else's IO"),
    )
    verdict = "exact" if found.exact else "not exact"
    return Sheet(f"IO {found.id}: {verdict}", facts=facts, tables=(rows,), notes=tuple(found.lines[:_MOST_LINES]))


def rates(found: Any) -> Sheet:
    """Return what is shown of labkit.witness.outcome.Rates: how many predictions were exact, by part."""
    rows = table("By part", ("part", "exact", "compared"), list(found.parts.items()), lambda row: (row[0], *row[1]))
    facts = (
        ("not certain in order", f"{found.starved:,} (R15, R16)"),
        ("somebody else's", count(found.foreign, "event")),
    )
    return Sheet(f"{found.exact:,} of {found.ios:,} IOs predicted exactly", facts=facts, tables=(rows,))


def fit(found: Any) -> Sheet:
    """Return what is shown of a labkit.witness.outcome.Fit."""
    return Sheet(f"The rules of {found.kernel} predict {found.exact:,} of {found.ios:,} IOs")


def struct_size(found: Any) -> Sheet:
    """Return what is shown of a labkit.witness.structs.StructSize."""
    kernel = "none here" if found.kernel is None else f"{found.kernel:,} bytes"
    model = "not counted" if found.model is None else f"{found.model:,} bytes"
    return Sheet(f"struct {found.name}", facts=(("this kernel", kernel), ("the model", model)))


def report(found: Any) -> Sheet:
    """Return what is shown of the doctor's Report: each finding, and for a no its reason and remedy."""
    yes = sum(finding.ok for finding in found.findings)
    rows = table("Findings", ("finding", "", "value", "reason – remedy"), found.findings, _finding)
    return Sheet(f"This machine allows {yes} of {len(found.findings)} things", tables=(rows,))


def _finding(one: Any) -> tuple[Cell, ...]:
    advice = "" if one.ok else f"{one.reason} – {one.remedy}"
    return one.name, "✓ yes" if one.ok else "✗ no", one.value, advice


def finding(one: Any) -> Sheet:
    """Return what is shown of one finding of the doctor."""
    name, says, value, advice = map(str, _finding(one))
    facts = (("answer", says), ("seen", value or "–"), ("reason – remedy", advice))
    return Sheet(name, facts=facts if advice else facts[:2])


def demonstration(shown: Any) -> Sheet:
    """Return what is shown of a demonstration's Shown: what the kernel did, and whether the model agrees."""
    rows = table("The kernel", tuple(map(str, shown.seen.columns)), shown.seen.rows, tuple)
    agree = f"otherwise about {', '.join(shown.differences)}" if shown.differences else "the same"
    model = f"says {agree}" if shown.model else "knows nothing of this"
    tags = ("measured just now",) if shown.recorded is None else (f"recorded {shown.recorded.get('date', '')}",)
    facts = (("question", shown.demo.question), ("how", shown.line), ("the model", model))
    return Sheet(shown.demo.title, tags, facts=facts, tables=(rows,), notes=(shown.demo.sentence,))
