from types import SimpleNamespace

import pytest

from labkit.hardware.clock import Clock
from labkit.hardware.controller import Controller, Verdict, Work
from labkit.hardware.device import BusFault
from labkit.hardware.iommu import Fills
from labkit.hardware.media.ops import Turn
from labkit.hardware.ram import RAM

AT_ONCE = Turn(0, 100)


class Medium:
    """Bytes with one turn for all, and a note of what was kept."""

    nbytes, volatile = 65536, False

    def __init__(self, turn=AT_ONCE):
        self.media, self.turn, self.kept = memoryview(bytearray(self.nbytes)), turn, []

    def reserve(self, _pos, _nbytes, *, write, fua=False):  # noqa: ARG002 - of the protocol
        return self.turn

    def flush(self):
        return 700

    def keep(self, pos, nbytes, *, fua=False):
        self.kept.append((pos, nbytes, fua))


def build(turn=AT_ONCE, bus=None):
    clock, ram, raw = Clock(), RAM(memoryview(bytearray(1 << 20))), []
    device = Controller(clock, bus or ram, Medium(turn), raw.append, overhead_ns=10, link_bytes_per_ns=2.0)
    return SimpleNamespace(device=device, clock=clock, ram=ram, raw=raw, told=[])


def begin(floor, *, write=False, nbytes=4096, pieces=((0x1000, 4096),), fua=False):
    work = Work(1, 1, 1, write, 8192, nbytes, pieces, fua)
    floor.device.begin(work, lambda _w, verdict, moved: floor.told.append((floor.clock.now, verdict, moved)))
    floor.clock.run()


def test_a_command_takes_its_turn_the_controllers_work_and_the_link():
    floor = build(Turn(50, 100, 3))
    begin(floor)
    assert floor.told == [(50 + 100 + 10 + 2048, Verdict.OK, 4096)]
    assert floor.raw == [("DeviceStart", 50, 1, 1, 3), ("DeviceDma", 2208, 1, 1, False, 4096)]


def test_a_flush_takes_what_the_medium_says_and_moves_nothing():
    floor = build()
    begin(floor, nbytes=0, pieces=(), write=True)
    assert floor.told == [(710, Verdict.OK, 0)]
    assert [rec[0] for rec in floor.raw] == ["DeviceStart"]


def test_the_medium_is_told_before_what_it_holds_is_replaced():
    floor = build()
    begin(floor, write=True, fua=True)
    assert floor.device.medium.kept == [(8192, 4096, True)]


def test_an_address_that_leads_nowhere_is_told_and_what_came_before_it_has_moved():
    floor = build()
    floor.device.poke(8192, b"m" * 4096)
    begin(floor, pieces=((0x1000, 512), (1 << 30, 3584)))
    assert floor.told[0][1:] == (Verdict.FAULT, 0)
    assert floor.raw[1:] == [("IoPageFault", 2158, 1, 1, 1 << 30, True)]
    assert bytes(floor.ram.view(0x1000, 512)) == b"m" * 512


def test_what_an_iotlb_did_is_told_once_a_transfer():
    ram = RAM(memoryview(bytearray(1 << 20)))
    bus = SimpleNamespace(views=ram.views, fills=lambda: Fills(((0x1000, 4096),), (), 2, 1))
    floor = build(bus=bus)
    begin(floor)
    assert floor.raw[1] == ("IotlbFill", 2158, 1, 1, ((0x1000, 4096),), (), 2, 1)


@pytest.mark.parametrize("sick", ["wedged", "gone"])
def test_a_device_that_falls_silent_on_the_way_answers_nothing(sick):
    floor = build()
    work = Work(1, 1, 1, False, 0, 4096, ((0x1000, 4096),))
    floor.device.begin(work, lambda *args: floor.told.append(args))
    setattr(floor.device.health, sick, True)
    floor.clock.run()
    assert (floor.told, floor.device.reset()) == ([], False)


def test_a_fault_of_the_bus_says_whether_it_was_to_be_written():
    floor = build()
    floor.device.fault(Work(1, 4, 5, False, 0, 512), BusFault(0xDEAD, True))
    assert floor.raw == [("IoPageFault", 0, 4, 5, 0xDEAD, True)]
