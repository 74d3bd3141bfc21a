"""The bytes of an ATA command: its FIS, its PRDT, its slot of the command list (AHCI-1)."""

from collections.abc import Iterable

from labkit.hardware.ahci import (
    CMD_FLUSH,
    CMD_FPDMA_READ,
    CMD_FPDMA_WRITE,
    CMD_READ,
    CMD_WRITE,
    CMD_WRITE_FUA,
    DEVICE_FUA,
    DEVICE_LBA,
    FIS,
    FIS_C,
    FIS_H2D,
    HEADER,
    OPT_WRITE,
    PRD,
    PRD_BYTES,
    PRDTL_SHIFT,
)
from labkit.kernel.drivers.ops import REQ_FUA, Request
from labkit.scatter.payload import Range

FIS_DWORDS = FIS.size // 4


def fis_of(rq: Request, tag: int, *, ncq: bool) -> bytes:
    """Return the 20 bytes of the register FIS of `rq`; `ncq`: queued by the drive, under `tag` (ata_build_rw_tf)."""
    if rq.is_flush:
        return _fis(CMD_FLUSH, 0, 0, DEVICE_LBA, 0)
    sectors = (rq.nbytes >> 9) & 0xFFFF
    fua = rq.write and bool(rq.opf & REQ_FUA)
    if ncq:
        command = CMD_FPDMA_WRITE if rq.write else CMD_FPDMA_READ
        return _fis(command, sectors, rq.sector, DEVICE_LBA | (DEVICE_FUA if fua else 0), tag << 3)
    command = (CMD_WRITE_FUA if fua else CMD_WRITE) if rq.write else CMD_READ
    return _fis(command, 0, rq.sector, DEVICE_LBA, sectors)


def prds(ranges: Iterable[Range]) -> bytes:
    """Return the PRDT of `ranges` (bus addresses): 16 bytes for each 4 MiB or less; a length stands as bytes - 1."""
    return b"".join([
        PRD.pack(addr + at, 0, min(nbytes - at, PRD_BYTES) - 1)
        for addr, nbytes in ranges
        for at in range(0, nbytes, PRD_BYTES)
    ])  # fmt: skip


def header(table: int, entries: int, *, write: bool) -> bytes:
    """Return the slot of a command whose table is at bus address `table` (ahci_fill_cmd_slot)."""
    options = FIS_DWORDS | (OPT_WRITE if write else 0) | entries << PRDTL_SHIFT
    return HEADER.pack(options, 0, table & 0xFFFF_FFFF, table >> 32)


def _fis(command: int, features: int, lba: int, device: int, count: int) -> bytes:
    low, high = lba.to_bytes(6, "little")[:3], lba.to_bytes(6, "little")[3:]
    return FIS.pack(FIS_H2D, FIS_C, command, features & 0xFF, low, device, high, features >> 8, count, 0, 0)
