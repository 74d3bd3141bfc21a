"""A command becomes a picture: its bytes in hex on one side, what they mean on the other, and a step for each field."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from labkit.trace.events import AtaQcIssue, NvmeSetupCmd, VirtqueueAdd
from labkit.trace.trace import Trace
from labkit.units import human_bytes
from labkit.views.decode import Block, Field, Written, decode
from labkit.views.steps import NARROW, WIDE, Hot, Step
from labkit.views.timed import Pen, Shape, Timed, Word, wide
from labkit.views.words import address, count

MOST_FIELDS, _TAIL = 20, 4
"""Fields of a block that are drawn, and how many of them are its last where there are more."""
_LINE, _BYTES = 21, 16
"""Pixels of a line, and how many bytes it holds."""
_HEAD, _GAP = 26, 16
_FUNCTIONS = {NvmeSetupCmd: "nvme_setup_cmd", VirtqueueAdd: "virtqueue_add_sgs", AtaQcIssue: "ahci_qc_prep"}
KINDS = {
    "command": "what to do", "address": "where in memory", "length": "how much", "place": "where on the device",
    "flag": "how", "pointer": "leads to more", "reserved": "not used",
}  # fmt: skip
"""What each kind of field says."""


class _Sheet(NamedTuple):
    pen: Pen
    width: float
    narrow: bool

    @property
    def left(self) -> float:
        """Where the first byte of a line is."""
        return 38.0 if self.narrow else 56.0

    @property
    def each(self) -> float:
        """How wide a byte is."""
        return 19.5 if self.narrow else 27.0

    @property
    def right(self) -> float:
        """Where the meanings begin."""
        return self.left + _BYTES * self.each + (16 if self.narrow else 40)


def commands(trace: Trace) -> list[Written]:
    """Return the records of `trace` that hold a command's bytes."""
    return [rec for rec in trace.records if isinstance(rec, Written)]


def descriptors(rec: Written | None, width: int = WIDE) -> Timed:
    """Return the picture of one command; of None an empty one."""
    sheet = _Sheet(Pen(), width, width <= NARROW)
    blocks = decode(rec) if rec is not None else []
    y, step = 4.0, 0
    for block in blocks:
        y = _block(sheet, block, y, step)
        step += len(_shown(block))
    return sheet.pen.done(width, max(y, 40), steps(rec, blocks) if rec is not None else [])


def steps(rec: Written, blocks: list[Block]) -> list[Step]:
    """Return a step for each field that is drawn."""
    function = _FUNCTIONS[type(rec)]
    return [
        Step(_where(field), KINDS[field.kind], _sentence(field, block), function, "upstream")
        for block in blocks
        for field in _shown(block)
    ]


def headline(rec: Written | None, among: int) -> tuple[str, str]:
    """Return what the command is, and the sentence under it; `among` is how many commands there are."""
    if rec is None:
        return "No command", "This trace holds no bytes that a driver wrote for its device."
    match rec:
        case NvmeSetupCmd():
            how = {"prp": "PRPs", "sgl1": "one SGL descriptor", "sgl": "an SGL"}.get(rec.encoding, rec.encoding)
            head = f"NVMe command {rec.cid}: {human_bytes(rec.length)} by {how}"
        case VirtqueueAdd():
            head = f"virtio-blk request {rec.rq}: {human_bytes(rec.len)} in {count(rec.entries, 'descriptor')}"
        case AtaQcIssue():
            head = f"AHCI slot {rec.tag}: {human_bytes(rec.len)} in {count(rec.entries, 'PRDT entry', 'PRDT entries')}"
    told = f"The first of {count(among, 'command')}. " if among > 1 else ""
    return head, f"{told}These are the bytes that the device fetches and obeys; little endian."


def _shown(block: Block) -> tuple[Field, ...]:
    """Return the fields that are drawn: the first ones, and the last four, which end a chain."""
    fields = block.fields
    return fields if len(fields) <= MOST_FIELDS else fields[: MOST_FIELDS - _TAIL] + fields[-_TAIL:]


def _where(field: Field) -> str:
    last = field.at + field.nbytes - 1
    return f"byte {field.at}" if last == field.at else f"bytes {field.at} to {last}"


def _sentence(field: Field, block: Block) -> str:
    also = f" In this block, {block.under}." if block.under and field.at == 0 else ""
    return f"{field.name} is {field.value}: {field.meaning}.{also}"


def _block(sheet: _Sheet, block: Block, top: float, step: int) -> float:
    """Draw a block from `top` down, its first field at `step`; return where it ends."""
    pen, fields = sheet.pen, _shown(block)
    where = f" at {address(block.addr)}" if block.addr >= 0 else ""
    pen.words.append(Word(0, top + 10, f"{block.title}{where}", 12.5, style="bold", ahead=1))
    top += _HEAD
    lines = _lines(fields, top)
    for line, y in lines.items():
        pen.words.append(Word(0, y + _LINE / 2, f"{line * _BYTES:#05x}", 10, "faint", "mono", ahead=1))
    for i, field in enumerate(fields):
        _bytes(sheet, block, field, (lines, step + i))
        _meaning(sheet, field, top + i * _LINE, step + i)
    bottom = top + max(len(fields), len(lines)) * _LINE
    notes = [block.under] if block.under else []
    if len(block.fields) > len(fields):
        notes.insert(0, f"{count(len(block.fields) - len(fields), 'more field')} before the last ones")
    if notes:
        pen.words.append(Word(sheet.right, bottom + 9, "; ".join(notes), 10.5, "mid", ahead=1))
        bottom += 18
    return bottom + _GAP


def _lines(fields: Sequence[Field], top: float) -> dict[int, float]:
    """Return for each line of bytes that holds any of `fields` where it is drawn."""
    found = {at // _BYTES for field in fields for at in range(field.at, field.at + field.nbytes)}
    return {line: top + i * _LINE for i, line in enumerate(sorted(found))}


def _bytes(sheet: _Sheet, block: Block, field: Field, begin: tuple[Mapping[int, float], int]) -> None:
    """Draw the bytes of a field, a box for each line that it is on; in a frame while it is told of."""
    pen, (lines, step) = sheet.pen, begin
    at, end = field.at, field.at + field.nbytes
    while at < end:
        line, first = divmod(at, _BYTES)
        upto = min(end, (line + 1) * _BYTES)
        x0, x1 = sheet.left + first * sheet.each, sheet.left + (first + upto - at) * sheet.each
        box = (x0 + 1, lines[line] + 1, x1 - 1, lines[line] + _LINE - 1)
        _lit(pen, box, field, step)
        for i in range(at, upto):
            x = sheet.left + (i % _BYTES + 0.5) * sheet.each
            y = lines[line] + _LINE / 2
            size = 10 if sheet.narrow else 12
            pen.words.append(Word(x, y, f"{block.data[i]:02x}", size, "ink", "mono", align="center", ahead=1, past=1))
        pen.hot.append(Hot(*box, (field.name, field.value, field.meaning, _where(field)), step))
        at = upto


def _meaning(sheet: _Sheet, field: Field, top: float, step: int) -> None:
    """Write a field's name, its value and what that means, as far as there is room."""
    pen, y, narrow = sheet.pen, top + _LINE / 2, sheet.narrow
    box = (sheet.right - 8, top + 1, sheet.width - 2, top + _LINE - 1)
    _lit(pen, box, field, step)
    size, x = (10.0, sheet.right) if narrow else (12.0, sheet.right)
    pen.words.append(Word(x, y, field.name, size, style="bold", ahead=1, past=1))
    x += 128 if narrow else 170
    pen.words.append(Word(x, y, field.value, size, "ink", "mono", ahead=1, past=1))
    x += 200
    if not narrow:
        pen.words.append(Word(x, y, field.meaning, size, "ink", ahead=1, past=1))
        kind = Word(sheet.width - 10, y, KINDS[field.kind], 10.5, "mid", align="right", ahead=1, past=1)
        pen.words.extend([kind] if x + wide(field.meaning, 12) + 130 < sheet.width else [])
    pen.hot.append(Hot(*box, (field.name, field.value, field.meaning, _where(field)), step))


def _lit(pen: Pen, box: tuple[float, float, float, float], field: Field, step: int) -> None:
    """Draw the ground of a field, pale, and a frame around it while it is told of."""
    pen.shapes.append(Shape(*box, f"f{field.kind}", ahead=0.26, now=0.26, past=0.26))
    pen.shapes.append(Shape(*box, "window", step, step + 1))
