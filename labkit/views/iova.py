"""Mappings become a picture: device addresses, the memory they lead to, the IOTLB above, and how long each lives.

Below, every mapping has a row: a bar while it is live, and a hatched one while it is unmapped and still reachable.
"""

from collections.abc import Sequence
from typing import NamedTuple

from labkit.trace.trace import Trace
from labkit.units import PAGE_SIZE, human_bytes, human_ns
from labkit.views.journey import NEVER
from labkit.views.mappings import Mapping, Mappings, mappings
from labkit.views.runs import Strip, strip
from labkit.views.steps import NARROW, WIDE, Hot, Step
from labkit.views.story import story
from labkit.views.timed import Band, Pen, Shape, Timed, Word, wide
from labkit.views.words import address, count

_IOTLB, _IOVA, _IOPTE, _PHYS = (34, 58), (84, 124), (128, 137), (226, 262)
"""Top and bottom of each row of addresses."""
_ROWS, _ROW, _MOST_ROWS = 306, 20, 24
"""Where the rows of mappings begin, how high each is, and how many there are at most."""
_MOST_PIECES, _MOST_PTES, _LEAST_PTE, _TANGLE = 512, 1024, 2.5, 64
"""Ranges and IOMMU entries that are drawn at most, pixels that an entry needs, and how many ribbons are no tangle."""
ROLES = {"phys": "mapped", "iova": "mapped", "sg": "mapped", "bus": "bus", "premapped": "premapped"}
INKS = {"mapped": "on0", "bounce": "on1", "bus": "on2", "premapped": "on3", "stale": "ink"}
_KINDS = {
    "identity": "Direct: a device address is the physical one",
    "bounce": "The device is given bounce buffers that it can reach, and the CPU copies",
    "bus": "Peer to peer: the device is given its neighbour's own bus addresses",
    "premapped": "Mapped before the IO, once, and for good",
    "iova": "The IOMMU leads device addresses to the pages, wherever they are",
    "machine": "Xen: the device is given the machine's addresses, of which the guest knows nothing",
}


class _Sheet(NamedTuple):
    pen: Pen
    told: Mappings
    dma: Strip
    phys: Strip
    left: float
    right: float
    narrow: bool

    @property
    def pieces(self) -> int:
        """How many ranges there are, on the side that has more of them."""
        return sum(max(len(one.dma), len(one.phys)) for one in self.told.maps)

    @property
    def every(self) -> int:
        """One of how many ranges is drawn."""
        return max(1, -(-self.pieces // _MOST_PIECES))

    def at(self, step: int) -> float:
        """Return where on the axis of steps a step is."""
        last = max(len(self.told.told), 1)
        return self.left + (self.right - self.left) * min(step, last) / last


def iova(trace: Trace, width: int = WIDE) -> Timed:
    """Return the picture of the device addresses of `trace`."""
    told, narrow = mappings(trace), width <= NARROW
    left, right = (78.0 if narrow else 132.0), width - 12.0
    dma = strip([(addr, n) for m in told.maps for addr, n in m.dma] + [(e.addr, e.nbytes) for e in told.entries]
                + [(addr, PAGE_SIZE) for _, addr in told.faults], left, right)  # fmt: skip
    phys = strip([(addr, n) for m in told.maps for addr, n in m.phys], left, right)
    sheet = _Sheet(Pen(), told, dma, phys, left, right, narrow)
    _names(sheet)
    for one in told.maps:
        _mapping(sheet, one)
    _iotlb(sheet)
    _faults(sheet)
    bottom = _lives(sheet)
    return sheet.pen.done(width, bottom, steps(trace, told))


def steps(trace: Trace, told: Mappings) -> list[Step]:
    """Return a step for each record that matters to device addresses."""
    lines = story(trace)
    return [Step(human_ns(lines[at].t), *lines[at][1:]) for at in told.told]


def kind(told: Mappings) -> str:
    """Return which way the memory of a trace is mapped: one of _KINDS."""
    if any(one.bounced for one in told.maps):
        return "bounce"
    hows = {one.how for one in told.maps}
    if "premapped" in hows:
        return "premapped"
    if hows == {"bus"}:
        return "bus"
    if all(one.identity for one in told.maps):
        return "identity"
    return "iova" if any(one.ioptes for one in told.maps) else "machine"


def headline(told: Mappings) -> tuple[str, str]:
    """Return a headline of the picture, and the sentence under it."""
    if not told.maps:
        return "Nothing was mapped for a device", "This trace has no DMA mapping."
    maps, total = len(told.maps), sum(one.nbytes for one in told.maps)
    windows = [one.window for one in told.maps if one.window > 0]
    head = f"{count(maps, 'mapping')} of {human_bytes(total)} in {_ranges(told)}"
    parts = [_KINDS[kind(told)]]
    if windows:
        parts.append(f"the longest is reachable for {human_ns(max(windows))} after its unmap")
    elif any(one.unmap < NEVER and one.dead == NEVER for one in told.maps):
        parts.append("what is unmapped stays reachable to the end of this trace")
    if told.left_out:
        parts.append(f"these are the first {len(told.told)} steps, {told.left_out:,} come after them")
    return head[:1].upper() + head[1:], "; ".join(parts) + "."


def _ranges(told: Mappings) -> str:
    dma, phys = sum(len(one.dma) for one in told.maps), sum(len(one.phys) for one in told.maps)
    return f"{count(dma, 'device range')} over {count(phys, 'physical range')}"


def role(one: Mapping) -> str:
    """Return how a mapping looks while it is live."""
    return "bounce" if one.bounced else ROLES.get(one.how, "mapped")


def _names(sheet: _Sheet) -> None:
    """Write the names of the rows, and the first address of each run where there is room."""
    pen, size = sheet.pen, 11 if sheet.narrow else 12.5
    same, leaves = kind(sheet.told) == "identity", any(one.leaf for one in sheet.told.maps)
    rows = {"device": _IOVA, "physical": _PHYS}
    if sheet.told.entries:
        rows["IOTLB"] = _IOTLB
    for name, (top, bottom) in rows.items():
        pen.words.append(Word(0, (top + bottom) / 2, name, size, style="bold", ahead=1))
    if leaves:
        pen.words.append(Word(0, sum(_IOPTE) / 2 + 5, "IOMMU entries", 10, "mid", ahead=1))
        pen.words.append(
            Word(sheet.right, 12, "◂ handed out from the top, downwards", 10, "faint", align="right", ahead=1)
        )
    if same and sheet.told.maps:
        pen.words.append(Word(sheet.left, _IOTLB[1] - 14, "no translation: the same on both sides", 11, "mid", ahead=1))
    for found, y in ((sheet.dma, _IOVA[0] - 10), (sheet.phys, _PHYS[1] + 11)):
        last = 0.0
        for start, _, left, _wide in found.pieces:
            text = address(start)
            if left > last and left + wide(text, 10) * 1.25 < sheet.right + 12:
                pen.words.append(Word(left, y, text, 10, "faint", "mono", ahead=1))
                last = left + wide(text, 10) * 1.45 + 14


def _mapping(sheet: _Sheet, one: Mapping) -> None:
    """Draw a mapping: its device ranges, live and then stale, and what each of them leads to."""
    pen, looks = sheet.pen, role(one)
    for addr, nbytes in one.dma[:: sheet.every]:
        x0, x1 = sheet.dma.box(addr, nbytes)
        box = (x0, _IOVA[0], max(x1, x0 + 2), _IOVA[1])
        pen.shapes.append(Shape(*box, "empty", one.dead, NEVER))
        if one.window:
            pen.shapes.append(Shape(*box, "stale", one.unmap, one.dead))
            word = Word(0, 0, "", 10.5, "ink", style="bold", t1=one.unmap, t4=one.dead, back="stale")
            pen.fit(box, "stale", word)
        pen.shapes.append(Shape(*box, looks, one.map, one.unmap, ahead=0.08))
        name = f"request {one.rq}" if one.rq >= 0 else f"registration {-one.rq}"
        short = next((t for t in (name, str(abs(one.rq))) if wide(t, 10.5) + 6 < x1 - x0), "")
        pen.fit(box, short, Word(0, 0, "", 10.5, INKS[looks], t1=one.map, t4=one.unmap, back=looks))
        pen.hot.append(Hot(*box, _tip(one, addr, nbytes), one.map))
    _leads(sheet, one, looks)


def _leads(sheet: _Sheet, one: Mapping, looks: str) -> None:
    """Draw the ribbons of a mapping, the memory that they lead to, and a cell for each IOMMU entry."""
    pen, found = sheet.pen, list(one.leads())
    now = 0.3 if sheet.pieces <= _TANGLE else 0.1
    for addr, phys, nbytes in found[:: sheet.every]:
        a0, a1 = sheet.dma.box(addr, nbytes)
        b0, b1 = sheet.phys.box(phys, nbytes)
        ribbon = Band(_IOPTE[1] + 2, a0, max(a1, a0 + 1), _PHYS[0] - 2, b0, max(b1, b0 + 1), looks, one.map, one.unmap)
        pen.bands.append(ribbon._replace(now=now))
        box = (b0, _PHYS[0], max(b1, b0 + 2), _PHYS[1])
        pen.shapes.append(Shape(*box, "row", ahead=1, past=1))
        pen.shapes.append(Shape(*box, looks, one.map, one.unmap, now=0.55))
        if one.window:
            pen.bands.append(ribbon._replace(role="cut", t1=one.unmap, t4=one.dead, ahead=0, now=now * 0.7))
            pen.shapes.append(Shape(*box, "stale", one.unmap, one.dead))
        tip = (f"{human_bytes(nbytes)} of memory at {address(phys)}", f"the device says {address(addr)}")
        pen.hot.append(Hot(*box, tip, one.map))
    if one.bounced:
        y = (_IOPTE[1] + _PHYS[0]) / 2
        pen.words.append(Word(0, y, "▲ CPU copies", 11, t1=one.map, t4=one.map + 1, style="bold"))
        pen.words.append(Word(0, y, "▼ CPU copies", 11, t1=one.unmap, t4=one.unmap + 1, style="bold"))
    _entries(sheet, one)


def _entries(sheet: _Sheet, one: Mapping) -> None:
    """Draw a cell for each entry in the IOMMU's page table, where they can be told apart."""
    if not one.leaf or sum(other.ioptes for other in sheet.told.maps) > _MOST_PTES:
        return
    done = 0
    for addr, nbytes in one.dma:
        x0, x1 = sheet.dma.box(addr, nbytes)
        cells = -(-nbytes // one.leaf)
        each = (x1 - x0) / cells
        if each < _LEAST_PTE:
            return
        for i in range(cells):
            box = (x0 + i * each, _IOPTE[0], x0 + (i + 1) * each, _IOPTE[1])
            sheet.pen.shapes.append(Shape(*box, f"vec{(done + i) % 2}", one.map, one.unmap))
        done += cells


def _tip(one: Mapping, addr: int, nbytes: int) -> tuple[str, ...]:
    """Return what is said of a device range that is pointed at."""
    whose = f"request {one.rq}" if one.rq >= 0 else f"registration {-one.rq}"
    told = [f"{whose}: {human_bytes(nbytes)} at {address(addr)}", f"leads to {count(len(one.phys), 'physical range')}"]
    if one.ioptes:
        each = f" of {human_bytes(one.leaf)}" if one.leaf else ""
        told.append(count(one.ioptes, f"IOMMU entry{each}", f"IOMMU entries{each}"))
    if one.bounced:
        told.append(f"{human_bytes(one.bounced)} copied into bounce buffers (SWI-3)")
    if one.unmap < NEVER and one.window:
        told.append(_window(one))
    return tuple(told)


def _window(one: Mapping) -> str:
    if one.window < 0:
        return "reachable after its unmap, to the end of this trace"
    return f"reachable for {human_ns(one.window)} after its unmap"


def _iotlb(sheet: _Sheet) -> None:
    """Draw what the IOTLB knows, each entry above the addresses that it translates."""
    for entry in sheet.told.entries:
        x0, x1 = sheet.dma.box(entry.addr, entry.nbytes)
        box = (x0, _IOTLB[0], max(x1, x0 + 2), _IOTLB[1])
        sheet.pen.shapes.append(Shape(*box, "cached", entry.begin, entry.end))
        gone = (f"{entry.why} later",) if entry.why else ()
        tip = (f"the IOTLB knows {address(entry.addr)}", human_bytes(entry.nbytes), *gone)
        sheet.pen.hot.append(Hot(*box, tip, entry.begin))


def _faults(sheet: _Sheet) -> None:
    for step, addr in sheet.told.faults:
        x = sheet.dma.box(addr, PAGE_SIZE)[0]
        sheet.pen.shapes.append(Shape(x - 2, _IOVA[0] - 4, x + 2, _IOVA[1] + 4, "cut", step))
        sheet.pen.words.append(Word(x, _IOTLB[0] - 11, "▼ nothing answers here", 10.5, style="bold", t1=step))


def _lives(sheet: _Sheet) -> float:
    """Draw a row for each mapping on the axis of steps, and the cursor; return where the picture ends."""
    pen, told = sheet.pen, sheet.told
    shown = told.maps[:_MOST_ROWS]
    pen.words.append(Word(0, _ROWS - 14, "one step an event", 10, "faint", ahead=1))
    if sheet.every > 1:
        text = f"of {sheet.every} ranges in a row one is drawn"
        pen.words.append(Word(sheet.right, _ROWS - 14, text, 10.5, "mid", align="right", ahead=1))
    for i, one in enumerate(shown):
        top = _ROWS + i * _ROW
        name = f"rq {one.rq}" if one.rq >= 0 else f"reg. {-one.rq}"
        pen.words.append(Word(0, top + _ROW / 2, name, 11, ahead=1))
        pen.shapes.append(Shape(sheet.left, top + 2, sheet.right, top + _ROW - 2, "row", ahead=1))
        _life(sheet, one, top)
    bottom = _ROWS + len(shown) * _ROW
    if len(told.maps) > len(shown):
        text = f"{count(len(told.maps) - len(shown), 'more mapping')} without a row"
        pen.words.append(Word(sheet.left, bottom + 10, text, 10.5, "mid", ahead=1))
    for step in range(len(told.told)):
        x = sheet.at(step)
        pen.shapes.append(Shape(x, _ROWS - 6, x + 2, bottom + 2, "edge", step, step + 1))
    return bottom + (22 if len(told.maps) > len(shown) else 8)


def _life(sheet: _Sheet, one: Mapping, top: float) -> None:
    """Draw the bar of a mapping while it is live, and its window, with its length in time."""
    pen, looks = sheet.pen, role(one)
    ends = (sheet.at(one.map), sheet.at(one.unmap), sheet.at(one.dead))
    box = (ends[0], top + 2, max(ends[1], ends[0] + 2), top + _ROW - 2)
    pen.shapes.append(Shape(*box, looks, one.map, ahead=0.12))
    pen.fit(box, human_bytes(one.nbytes), Word(0, 0, "", 10, INKS[looks], t1=one.map, back=looks))
    pen.hot.append(Hot(*box, _tip(one, one.dma[0][0] if one.dma else 0, one.nbytes), one.map))
    if one.unmap < NEVER and one.window:
        box = (ends[1], top + 2, max(ends[2], ends[1] + 2), top + _ROW - 2)
        pen.shapes.append(Shape(*box, "stale", one.unmap, ahead=0.08))
        texts: Sequence[str] = (f"still reachable: {_long(one)}", _long(one))
        text = next((t for t in texts if wide(t, 10) + 6 < box[2] - box[0]), "")
        pen.fit(box, text, Word(0, 0, "", 10, "ink", style="bold", t1=one.unmap, back="stale"))
        pen.hot.append(Hot(*box, ("unmapped, and not yet flushed", _window(one)), one.unmap))


def _long(one: Mapping) -> str:
    return human_ns(one.window) if one.window >= 0 else "to the end"
