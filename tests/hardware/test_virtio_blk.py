import struct
from types import SimpleNamespace

import pytest

from labkit.errors import BadInput
from labkit.hardware.device import Command
from labkit.hardware.virtio_blk import VirtioProfile
from labkit.kernel.drivers.virtio_blk.vring import Entry
from labkit.machine import DATA, Machine

DATA_AT, HEADER_AT, STATUS_AT = 0x6400000, 0x6500000, 0x6500100


@pytest.fixture
def floor():
    machine = Machine(device="virtio", ram="128 MiB", fragmentation=0, dma="direct")
    return SimpleNamespace(device=machine.device, ring=machine.driver.vring, ram=machine.ram, clock=machine.clock)


def ask(floor, entries, header=(0, 0, 0), table=None):
    """Put a chain into the ring by hand; return the status byte and the used element; None where none came."""
    told = []
    floor.ram.view(HEADER_AT, 16)[:] = struct.pack("<IIQ", *header)
    floor.ram.view(STATUS_AT, 1)[:] = b"\xff"
    chain = floor.ring.take(len(entries))
    raw = floor.ring.write(chain, entries)
    if chain.table:
        floor.ring.lead(chain, floor.ring.table_at(chain) if table is None else table, len(raw))
    floor.ring.offer(chain.head)
    floor.device.submit(Command(1, 1, chain.head, False, 0, 0, ()), told.append)
    floor.clock.run()
    return (floor.ram.view(STATUS_AT, 1)[0], *floor.ring.take_used()) if told else None


HEAD, READ, STATUS = Entry(HEADER_AT, 16, 0), Entry(DATA_AT, 512, 2), Entry(STATUS_AT, 1, 2)


def test_a_read_writes_data_status_and_a_used_element(floor):
    floor.device.poke(512, b"v" * 512)
    assert ask(floor, [HEAD, READ, STATUS], (0, 0, 1)) == (0, (0, 513))
    assert bytes(floor.ram.view(DATA_AT, 512)) == b"v" * 512


def test_a_type_that_is_unknown_is_unsupported(floor):
    assert ask(floor, [HEAD, READ, STATUS], (77, 0, 0)) == (2, (0, 1))


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ((0, 0, 1 << 40), READ),
        ((0, 0, 0), Entry(DATA_AT, 511, 2)),
        ((0, 0, 0), Entry(DATA_AT, 512, 0)),
        ((1, 0, 0), READ),
    ],
    ids=["beyond the end", "half a sector", "a read of what is read-only", "a write of what is write-only"],
)
def test_what_cannot_be_done_is_an_io_error(floor, header, data):
    assert ask(floor, [HEAD, data, STATUS], header)[0] == 1


@pytest.mark.parametrize(
    "entries",
    [[HEAD], [Entry(HEADER_AT, 8, 0), READ, STATUS], [Entry(HEADER_AT, 16, 2), READ, STATUS], [HEAD, READ]],
    ids=["a header alone", "half a header", "a header to be written", "data without a status"],
)
def test_a_chain_that_is_none_breaks_the_device(floor, entries):
    entries = [*entries[:-1], entries[-1]._replace(flags=0)] if len(entries) == 2 else entries
    assert ask(floor, entries) is None
    assert floor.device.broken
    assert ask(floor, [HEAD, READ, STATUS]) is None


def test_a_table_that_is_nowhere_breaks_the_device(floor):
    assert ask(floor, [HEAD, READ, STATUS], table=1 << 40) is None
    assert floor.device.broken


def test_a_bad_number_of_a_profile_is_refused():
    with pytest.raises(BadInput, match="seg_max"):
        VirtioProfile.load(DATA / "virtio.toml", {"seg_max": 0})
