import struct
from types import SimpleNamespace

import pytest

from labkit.errors import BadInput
from labkit.hardware.ahci import CMD_FPDMA_READ, CMD_READ, FIS, AhciProfile
from labkit.hardware.device import Command
from labkit.kernel.drivers.ahci.command import header, prds
from labkit.machine import DATA, Machine

MEMORY = 0x6400000


@pytest.fixture
def floor():
    machine = Machine(device="ahci", ram="128 MiB", fragmentation=0, dma="direct")
    return SimpleNamespace(device=machine.device, port=machine.driver.port, ram=machine.ram, clock=machine.clock)


def ask(floor, fis, pieces=((MEMORY, 512),), *, write=False, table=None):
    """Fill slot 3 by hand; return the registers, and the bytes that the port says it moved."""
    told, port = [], floor.port
    at, prdt = port.table(3), prds(pieces)
    floor.ram.view(port.phys + at, 20)[:] = fis
    floor.ram.view(port.phys + at + 128, len(prdt))[:] = prdt
    slot = header(port.dma + at if table is None else table, len(pieces), write=write)
    floor.ram.view(port.phys + 3 * 32, 32)[:] = slot
    floor.device.submit(Command(1, 1, 3, False, 0, 0, ()), told.append)
    assert floor.device.ci == 8
    floor.clock.run()
    assert floor.device.ci == 0
    moved = struct.unpack("<I", floor.ram.view(port.phys + 3 * 32 + 4, 4))[0]
    return (*floor.device.taskfile[3], moved)


def read(lba=1, command=CMD_READ, count=1, features=0, kind=0x27, flags=0x80):
    return FIS.pack(kind, flags, command, features, lba.to_bytes(6, "little")[:3], 0x40, b"\0\0\0", 0, count, 0, 0)


def test_a_read_moves_its_bytes_and_says_how_many(floor):
    floor.device.poke(512, b"a" * 512)
    assert ask(floor, read()) == (0x50, 0, 512)
    assert bytes(floor.ram.view(MEMORY, 512)) == b"a" * 512
    received = floor.ram.view(floor.port.phys + floor.port.received + 0x40, 4)
    assert bytes(received) == b"\x34\x40\x50\x00"


def test_a_queued_read_has_its_count_elsewhere(floor):
    floor.device.poke(512, b"q" * 512)
    assert ask(floor, read(command=CMD_FPDMA_READ, features=1, count=3 << 3)) == (0x50, 0, 512)


@pytest.mark.parametrize(
    ("fis", "error"),
    [
        (read(command=0xFF), 0x04),
        (read(kind=0x46), 0x04),
        (read(flags=0), 0x04),
        (read(count=2), 0x04),
        (FIS.pack(0x27, 0x80, 0x25, 0, b"\0\0\0", 0x40, b"\xff\xff\xff", 0, 1, 0, 0), 0x10),
    ],
    ids=["no such command", "no such FIS", "no command", "a PRDT that is too short", "beyond the end"],
)
def test_what_cannot_be_done_is_told_by_the_error_register(floor, fis, error):
    assert ask(floor, fis) == (0x41, error, 0)


def test_a_slot_that_says_the_other_direction_is_aborted(floor):
    assert ask(floor, read(), write=True) == (0x41, 0x04, 0)


def test_memory_that_does_not_answer_is_an_error_of_the_host_bus(floor):
    assert ask(floor, read(), ((1 << 40, 512),))[:2] == (0x41, 0x100)
    assert ask(floor, read(), table=1 << 40)[:2] == (0x41, 0x100)


def test_a_bad_number_of_a_profile_is_refused():
    with pytest.raises(BadInput, match="queue_depth"):
        AhciProfile.load(DATA / "ahci.toml", {"queue_depth": 33})
