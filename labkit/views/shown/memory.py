"""What is shown of memory: ranges that travel, folios and pins at one instant, and the whole machine at one instant."""

from labkit.scatter.phyr import Phyr, PhyrList, Phyrs
from labkit.trace.page_flags import FLAG_NAMES
from labkit.trace.snapshot import DmaState, FolioState, PinState, Snapshot
from labkit.units import PAGE_SHIFT, human_bytes, human_ns
from labkit.views.policies import HOW, RULES
from labkit.views.shown.sheet import Sheet
from labkit.views.shown.strip import Piece, strip
from labkit.views.shown.table import Cell, Table, table
from labkit.views.words import address, capital, count

_PROPOSED = "proposed (Wilcox, 2022 and 2024)"
_FEW = 4
"""Ranges that are told one by one in a cell."""


def phyrs(found: Phyrs) -> Sheet:
    """Return what is shown of a list of phyrs: how long each is, and where it lies (PHYR-1)."""
    title = f"{capital(count(len(found), 'phyr'))}, {human_bytes(found.nbytes if len(found) else 0)}"
    pieces = (Piece(one.len, _where(one), "ram" if one.cls.kind == "ram" else "peer") for one in found)
    rows = table("Phyrs", ("physical address", "bytes", "size", "class"), found, _phyr)
    return Sheet(title, (_PROPOSED,), strip=strip(pieces, len(found), "phyr"), tables=(rows,) if len(found) else ())


def phyr(one: Phyr) -> Sheet:
    """Return what is shown of a phyr alone."""
    return phyrs(PhyrList((one,)))


def _phyr(one: Phyr) -> tuple[Cell, ...]:
    return address(one.addr), one.len, human_bytes(one.len), _class(one)


def _class(one: Phyr) -> str:
    return f"{one.cls.kind} of {one.cls.provider}" if one.cls.provider else one.cls.kind


def _where(one: Phyr) -> str:
    return f"{human_bytes(one.len)} of {_class(one)} at {address(one.addr)}"


def folio(state: FolioState) -> Sheet:
    """Return what is shown of a folio at one instant."""
    size = human_bytes(1 << state.order + PAGE_SHIFT)
    facts = (
        (
            "frames",
            f"PFN {state.pfn:#x} to {state.pfn + (1 << state.order) - 1:#x}, at {address(state.pfn << PAGE_SHIFT)}",
        ),
        ("refcount", f"{state.refcount:,}"),
        ("pincount", f"{state.pincount:,}" if state.order else "none of its own: 1,024 a pin in refcount (MM-13)"),
        ("mapcount", f"{state.mapcount:,}"),
        ("flags", _flags(state.flags)),
    )
    return Sheet(f"A folio of {size}, order {state.order}", facts=facts)


def _flags(bits: int) -> str:
    known = [name for bit, name in FLAG_NAMES.items() if bits & bit]
    rest = bits & ~sum(FLAG_NAMES)
    return " ".join([*known, *([f"{rest:#x}"] if rest else [])]) or "none"


def pin(state: PinState) -> Sheet:
    """Return what is shown of a pin at one instant: whose it is, since when, and of what."""
    nbytes = sum(n for _, n in state.ranges)
    how = f"{HOW.get(state.policy, state.policy)}{RULES.get(state.policy, '')}"
    facts = (("held for", f"IO {state.io}" if state.io else "no IO"), ("since", human_ns(state.since)), ("policy", how))
    pieces = (Piece(n, f"{human_bytes(n)} at {address(addr)}") for addr, n in state.ranges)
    rows = table("Ranges", ("physical address", "bytes"), state.ranges, lambda one: (address(one[0]), one[1]))
    title = f"Pin {state.token} of {human_bytes(nbytes)}"
    return Sheet(title, facts=facts, strip=strip(pieces, len(state.ranges), "range"), tables=(rows,))


def dma(state: DmaState) -> Sheet:
    """Return what is shown of a DMA mapping at one instant."""
    title = f"A DMA mapping of {human_bytes(sum(n for _, n in state.dma))}"
    facts = (
        ("device sees", _ranges(state.dma)),
        ("memory", _ranges(state.phys)),
        ("state", "live" if state.live else "unmapped, and reachable still through the IOTLB"),
    )
    return Sheet(title, facts=facts)


def snapshot(now: Snapshot) -> Sheet:
    """Return what is shown of the machine at one instant; an empty part is left out."""
    held = sum(n for each in now.pins for _, n in each.ranges)
    facts = (
        ("mapped", f"{human_bytes(sum(row[1] for row in now.vmas))} in {count(len(now.vmas), 'mapping')}"),
        ("present", f"{human_bytes(sum(row[2] for row in now.pages))} in {count(len(now.pages), 'physical range')}"),
        ("folios", f"{len(now.folios):,}"),
        ("pinned", f"{human_bytes(held)} by {count(len(now.pins), 'pin')}"),
        ("mapped for DMA", count(len(now.dma), "mapping")),
        ("in flight", count(len(now.tags), "request")),
    )
    tables = tuple(found for found in _tables(now) if found.rows)
    return Sheet(f"The machine at {human_ns(now.t)}", facts=facts, tables=tables)


def _tables(now: Snapshot) -> tuple[Table, ...]:
    return (
        table("Mappings", ("user address", "size", "rights", "what", "task"), now.vmas, _vma),
        table("Folios", ("PFN", "size", "refcount", "pincount", "mapcount", "flags"), now.folios, _folio),
        table("Pins", ("pin", "IO", "since", "policy", "ranges"), now.pins, _pin),
        table("DMA mappings", ("device address", "physical", "state"), now.dma, _dma),
        table("Requests in flight", ("tag", "request"), now.tags, tuple),
    )


def _vma(row: tuple[int, int, str, str, int]) -> tuple[Cell, ...]:
    start, nbytes, prot, name, mm = row
    return address(start), human_bytes(nbytes), prot, name, mm


def _folio(state: FolioState) -> tuple[Cell, ...]:
    size = human_bytes(1 << state.order + PAGE_SHIFT)
    return f"{state.pfn:#x}", size, state.refcount, state.pincount, state.mapcount, _flags(state.flags)


def _pin(state: PinState) -> tuple[Cell, ...]:
    return state.token, state.io, human_ns(state.since), state.policy, _ranges(state.ranges)


def _dma(state: DmaState) -> tuple[Cell, ...]:
    return _ranges(state.dma), _ranges(state.phys), "live" if state.live else "stale"


def _ranges(ranges: object) -> str:
    """Return the first ranges as 'address+bytes', and how many more there are."""
    every = ranges if isinstance(ranges, tuple) else tuple(ranges)  # type: ignore[arg-type] # Ranges of either form
    told = ", ".join(f"{address(addr)}+{nbytes:,}" for addr, nbytes in every[:_FEW])
    return told + (f" and {len(every) - _FEW:,} more" if len(every) > _FEW else "")
