"""What a driver wrote for its device becomes blocks of bytes, each byte with a field, each field with a meaning."""

from collections.abc import Iterator
from typing import NamedTuple

from labkit.trace.events import AtaQcIssue, NvmeSetupCmd, VirtqueueAdd
from labkit.units import PAGE_SIZE, SECTOR_SIZE, human_bytes
from labkit.views.words import address, capital, count

Written = NvmeSetupCmd | VirtqueueAdd | AtaQcIssue
"""Records that hold the bytes of a command."""
SQE, ENTRY, PRP = 64, 16, 8
"""Bytes of a submission queue entry, of a descriptor (SGL, virtio, PRDT), of a PRP."""
_NVME = {0: "flush", 1: "write", 2: "read", 8: "write zeroes", 9: "deallocate"}
_VIRTIO = {0: "VIRTIO_BLK_T_IN, read", 1: "VIRTIO_BLK_T_OUT, write", 4: "VIRTIO_BLK_T_FLUSH"}
_ATA = {
    0x60: "READ FPDMA QUEUED", 0x61: "WRITE FPDMA QUEUED", 0x25: "READ DMA EXT", 0x35: "WRITE DMA EXT",
    0x3D: "WRITE DMA FUA EXT", 0xEA: "FLUSH CACHE EXT",
}  # fmt: skip
_SGL = {0x00: "data block", 0x20: "segment: more descriptors there", 0x30: "last segment: the other descriptors"}
_FUA, _PSDT_SGL = 1 << 30, 0x40
_NEXT, _WRITE, _INDIRECT = 1, 2, 4


class Field(NamedTuple):
    """Bytes [at, at + nbytes) of a block: `kind` is command, address, length, place, flag, pointer or reserved."""

    at: int
    nbytes: int
    name: str
    value: str
    meaning: str
    kind: str


class Block(NamedTuple):
    """Bytes that stand together in memory, at device address `addr` (-1: not told)."""

    title: str
    addr: int
    data: bytes
    fields: tuple[Field, ...]
    under: str = ""
    """What is to be said of it besides."""


def decode(rec: Written) -> list[Block]:
    """Return the blocks of a command: first itself, then what it points at. Bytes that are not told have none."""
    match rec:
        case NvmeSetupCmd():
            return [block for block in (_sqe(rec), *_lists(rec)) if block.data]
        case VirtqueueAdd():
            return [block for block in (_header(rec), _chain(rec)) if block.data]
    return [block for block in (_fis(rec), _prdt(rec)) if block.data]


def _number(data: bytes, at: int, nbytes: int) -> int:
    return int.from_bytes(data[at : at + nbytes], "little")


def _page(addr: int) -> str:
    """Return where in its page an address is."""
    inside = addr % PAGE_SIZE
    return f"page {addr // PAGE_SIZE:#x}" + (f", byte {inside:,} of it" if inside else "")


def _sqe(rec: NvmeSetupCmd) -> Block:
    """Return the submission queue entry, field by field (NVMe base specification, figure 'Common Command Format')."""
    data = bytes.fromhex(rec.sqe)
    if len(data) != SQE:
        return Block("", -1, b"", ())
    opcode, flags, cid, nsid = data[0], data[1], _number(data, 2, 2), _number(data, 4, 4)
    blocks, control = _number(data, 48, 2) + 1, _number(data, 48, 4)
    fields = (
        Field(0, 1, "opcode", f"{opcode:#04x}", _NVME.get(opcode, "another command"), "command"),
        Field(1, 1, "flags", f"{flags:#04x}", f"PSDT: data by {'SGL' if flags & _PSDT_SGL else 'PRPs'}", "flag"),
        Field(2, 2, "command id", f"{cid:#x}", "comes back in the completion", "command"),
        Field(4, 4, "namespace", f"{nsid}", "which of the drive's namespaces", "command"),
        Field(8, 16, "CDW2, CDW3, MPTR", "0", "not used: no metadata", "reserved"),
        *_dptr(data, rec, sgl=bool(flags & _PSDT_SGL)),
        Field(40, 8, "SLBA", f"{_number(data, 40, 8):,}", "first block on the drive", "place"),
        Field(48, 2, "NLB", f"{blocks - 1}", f"{count(blocks, 'block')}: the field is one less", "length"),
        Field(50, 2, "control", f"{control >> 16:#06x}", "FUA: straight to the medium" if control & _FUA else "no FUA",
              "flag"),
        Field(52, 12, "DSM, tags", f"{_number(data, 52, 12):#x}", "hints and protection, not used here", "reserved"),
    )  # fmt: skip
    return Block(f"Submission queue entry of command {rec.cid}, {SQE} bytes", -1, data, fields)


def _dptr(data: bytes, rec: NvmeSetupCmd, *, sgl: bool) -> tuple[Field, ...]:
    """Return the fields of the data pointer, bytes 24 to 39: two PRPs, or one SGL descriptor (NVME-5, NVME-7)."""
    if sgl:
        addr, nbytes, kind = _number(data, 24, 8), _number(data, 32, 4), data[39]
        where = _page(addr) if kind == 0 else "where the descriptors stand"
        return (
            Field(24, 8, "SGL address", address(addr), where, "address" if kind == 0 else "pointer"),
            Field(32, 4, "SGL length", f"{nbytes:,}", human_bytes(nbytes), "length"),
            Field(36, 4, "SGL type", f"{kind:#04x}", _SGL.get(kind, "another type"), "flag"),
        )
    one, two, listed = _number(data, 24, 8), _number(data, 32, 8), bool(rec.lists)
    second = "not used: all is in PRP1" if not two else f"the PRP list at {address(two)}" if listed else _page(two)
    says = "pointer" if listed else "address" if two else "reserved"
    first = PAGE_SIZE - one % PAGE_SIZE
    return (
        Field(24, 8, "PRP1", address(one), f"{_page(one)}: up to {human_bytes(first)}", "address"),
        Field(32, 8, "PRP2", address(two), second, says),
    )


def _lists(rec: NvmeSetupCmd) -> Iterator[Block]:
    """Yield each PRP list or SGL in memory; of a chain every list but the last ends in a pointer to the next."""
    found = [part.split(":") for part in rec.lists.split()]
    for i, (at, text) in enumerate(found):
        data, addr = bytes.fromhex(text), int(at, 16)
        if rec.encoding == "sgl":
            fields = tuple(_sgl(data, j) for j in range(0, len(data) - ENTRY + 1, ENTRY))
            yield Block(f"SGL, {count(len(fields), 'descriptor')}", addr, data, _flat(fields))
            continue
        more = int(found[i + 1][0], 16) if i + 1 < len(found) else None
        under = f"its last entry leads to the next list, at {address(more)} (NVME-5)" if more is not None else ""
        rows = tuple(_prp(data, j, more) for j in range(0, len(data) - PRP + 1, PRP))
        yield Block(f"PRP list {i + 1} of {len(found)}", addr, data, rows, under)


def _flat(rows: tuple[tuple[Field, ...], ...]) -> tuple[Field, ...]:
    return tuple(field for row in rows for field in row)


def _prp(data: bytes, at: int, more: int | None) -> Field:
    value = _number(data, at, PRP)
    if more is not None and value == more and at + PRP == len(data):
        return Field(at, PRP, f"entry {at // PRP}", address(value), "chain pointer: the next list", "pointer")
    return Field(at, PRP, f"entry {at // PRP}", address(value), _page(value), "address")


def _sgl(data: bytes, at: int) -> tuple[Field, ...]:
    addr, nbytes, kind = _number(data, at, 8), _number(data, at + 8, 4), data[at + 15]
    name = f"descriptor {at // ENTRY}"
    return (
        Field(at, 8, name, address(addr), _page(addr), "address" if kind == 0 else "pointer"),
        Field(at + 8, 4, "length", f"{nbytes:,}", human_bytes(nbytes), "length"),
        Field(at + 12, 4, "type", f"{kind:#04x}", _SGL.get(kind, "another type"), "flag"),
    )


def _header(rec: VirtqueueAdd) -> Block:
    """Return what a chain begins with (VIO-1): what is to be done, and where on the disk."""
    data = bytes.fromhex(rec.header)
    if len(data) != ENTRY:
        return Block("", -1, b"", ())
    kind, sector = _number(data, 0, 4), _number(data, 8, 8)
    fields = (
        Field(0, 4, "type", f"{kind}", _VIRTIO.get(kind, "another request"), "command"),
        Field(4, 4, "ioprio", f"{_number(data, 4, 4)}", "priority", "reserved"),
        Field(8, 8, "sector", f"{sector:,}", f"byte {sector * SECTOR_SIZE:,} of the disk", "place"),
    )
    return Block("Header of the request, 16 bytes", -1, data, fields)


def _chain(rec: VirtqueueAdd) -> Block:
    data = bytes.fromhex(rec.descs)
    where = f"an indirect table, behind slot {rec.head}" if rec.indirect else f"the ring, from slot {rec.head} on"
    rows = tuple(_desc(data, at) for at in range(0, len(data) - ENTRY + 1, ENTRY))
    return Block(f"{capital(count(len(rows), 'descriptor'))} in {where}", -1, data, _flat(rows))


def _desc(data: bytes, at: int) -> tuple[Field, ...]:
    addr, nbytes = _number(data, at, 8), _number(data, at + 8, 4)
    flags, after = _number(data, at + 12, 2), _number(data, at + 14, 2)
    names = {_NEXT: "NEXT", _WRITE: "WRITE", _INDIRECT: "INDIRECT"}
    said = " | ".join(name for bit, name in names.items() if flags & bit) or "none: the last, and read by the device"
    follows = ("the next slot", "pointer") if flags & _NEXT else ("nothing follows", "reserved")
    what = "header" if at == 0 and nbytes == ENTRY else "status byte" if nbytes == 1 else _page(addr)
    return (
        Field(at, 8, f"descriptor {at // ENTRY}", address(addr), what, "address"),
        Field(at + 8, 4, "length", f"{nbytes:,}", human_bytes(nbytes), "length"),
        Field(at + 12, 2, "flags", f"{flags}", f"{said}{', the device writes' if flags & _WRITE else ''}", "flag"),
        Field(at + 14, 2, "next", f"{after}", *follows),
    )  # fmt: skip


def _fis(rec: AtaQcIssue) -> Block:
    """Return the command FIS, host to device, 20 bytes; NCQ keeps the count where features were (ATA8-ACS)."""
    data = bytes.fromhex(rec.fis)
    if len(data) != 20:  # noqa: PLR2004 - the length of this FIS
        return Block("", -1, b"", ())
    lba = _number(data, 4, 3) | _number(data, 8, 3) << 24
    queued = data[2] in {0x60, 0x61}
    sectors = (data[3] | data[11] << 8) if queued else _number(data, 12, 2)
    tag = f"tag {data[12] >> 3}" if queued else "how many sectors"
    fields = (
        Field(0, 1, "FIS type", f"{data[0]:#04x}", "register, host to device", "command"),
        Field(1, 1, "flags", f"{data[1]:#04x}", "C: this is a command" if data[1] & 0x80 else "no command", "flag"),
        Field(2, 1, "command", f"{data[2]:#04x}", _ATA.get(data[2], "another command"), "command"),
        Field(3, 1, "features", f"{data[3]:#04x}", _sectors(sectors) if queued else "not used", "length"),
        Field(4, 3, "LBA 0-23", f"{_number(data, 4, 3):#x}", f"sector {lba:,} in all", "place"),
        Field(7, 1, "device", f"{data[7]:#04x}", "LBA mode" + (", FUA" if queued and data[7] & 0x80 else ""), "flag"),
        Field(8, 3, "LBA 24-47", f"{_number(data, 8, 3):#x}", "the upper half", "place"),
        Field(11, 1, "features, high", f"{data[11]:#04x}", "upper byte of the count" if queued else "not used",
              "length"),
        Field(12, 2, "count", f"{_number(data, 12, 2):#x}", tag, "command" if queued else "length"),
        Field(14, 6, "ICC, control, aux", f"{_number(data, 14, 6):#x}", "not used here", "reserved"),
    )  # fmt: skip
    return Block(f"Command FIS of slot {rec.tag}, 20 bytes", -1, data, fields)


def _sectors(sectors: int) -> str:
    return f"count: {count(sectors, 'sector')}, {human_bytes(sectors * SECTOR_SIZE)}"


def _prdt(rec: AtaQcIssue) -> Block:
    data = bytes.fromhex(rec.prdt)
    rows = tuple(_prd(data, at) for at in range(0, len(data) - ENTRY + 1, ENTRY))
    return Block(f"PRDT, {count(len(rows), 'entry', 'entries')}", -1, data, _flat(rows))


def _prd(data: bytes, at: int) -> tuple[Field, ...]:
    """Return an entry of the table: its count is one less than the bytes, and must be odd (AHCI 4.2.3.3)."""
    addr, dbc = _number(data, at, 8), _number(data, at + 12, 4)
    nbytes = (dbc & 0x3F_FFFF) + 1
    return (
        Field(at, 8, f"entry {at // ENTRY}", address(addr), _page(addr), "address"),
        Field(at + 8, 4, "reserved", "0", "not used", "reserved"),
        Field(at + 12, 4, "DBC", f"{dbc & 0x3F_FFFF:#x}", f"{human_bytes(nbytes)}: the field is one less", "length"),
    )
