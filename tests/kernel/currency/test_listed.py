from types import SimpleNamespace

import pytest

from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.currency.listed import ListedCurrency, Region
from labkit.kernel.currency.ops import Kiocb
from labkit.kernel.mm.frames.ledger import PinLedger
from labkit.scatter.payload import cut
from labkit.scatter.phyr import phyrs_of

PAGES = tuple((pfn * 4096, 4096) for pfn in (100, 101, 300, 301))
ADDR = 0x7F00_0000_0000


class Inner:
    """A currency that would have to pin, and says so."""

    policy = "page"

    def __init__(self, name):
        self.name, self.per_bio, self.asked = name, name == "page", []

    def pin(self, _iocb, start, nbytes=None):
        self.asked.append((start, nbytes))
        return "pinned"

    def slots(self, _iocb, _start):
        return 99


def world_of(name, *, table=True):
    listed = ListedCurrency(Inner(name))
    phyrs = phyrs_of([100 * 4096, 300 * 4096], [8192, 8192])
    listed.regions[0, ADDR] = Region(ADDR, phyrs, 1, PAGES if table else ())
    wiped = []
    frames = SimpleNamespace(now=lambda: 5, wipe=lambda addr, n: wiped.append((addr, n)))
    mm = SimpleNamespace(task=0, frames=frames, ledger=PinLedger())
    return listed, mm, wiped


def iocb_of(mm, addr, nbytes):
    return Kiocb(1, mm, "pread64", addr, nbytes, 0, False, QueueLimits())


@pytest.mark.parametrize(("name", "table", "expected"), [
    ("page", True, tuple(cut(PAGES, 512, 12288))), ("page", False, ((0x64200, 7680), (0x12C000, 4608))),
    ("phyr", True, ((0x64200, 7680), (0x12C000, 4608))),
])  # fmt: skip
def test_rule_r17_an_io_takes_a_part_of_what_is_listed_and_counts_nothing(name, table, expected):
    listed, mm, _ = world_of(name, table=table)
    iocb = iocb_of(mm, ADDR + 512, 12288)
    hold = listed.pin(iocb, 0)
    assert (hold.ranges, hold.nbytes) == (expected, 12288)
    assert (hold.ptes, hold.atomics, hold.struct_pages, listed.policy) == (0, 0, 0, "none")
    assert listed.unpin(iocb, hold) == (0, 0)
    assert mm.ledger.held == {}
    assert listed.inner.asked == []


def test_what_is_not_listed_in_full_is_pinned_by_the_other():
    listed, mm, _ = world_of("page")
    assert listed.pin(iocb_of(mm, ADDR + 16384 - 512, 1024), 0) == "pinned"
    assert listed.pin(iocb_of(mm, ADDR - 512, 1024), 0, 512) == "pinned"
    assert (listed.inner.asked, listed.policy) == ([(0, None), (0, 512)], "page")


def test_another_tasks_address_is_another_address():
    listed, mm, _ = world_of("page")
    assert listed.find(0, ADDR, 16384) is not None
    assert listed.find(1, ADDR, 16384) is None
    mm.task = 1
    assert listed.pin(iocb_of(mm, ADDR, 512), 0) == "pinned"


def test_rule_dio7_a_table_of_its_own_needs_no_other():
    listed, mm, _ = world_of("page")
    assert listed.slots(iocb_of(mm, ADDR, 16384), 0) == 0
    assert listed.slots(iocb_of(mm, 0x1000, 16384), 0) == 99


def test_zeros_go_to_listed_memory_by_its_addresses():
    listed, mm, wiped = world_of("page")
    assert listed.zero(iocb_of(mm, ADDR, 16384), 4096, 8192, None) == 8192
    assert wiped == [(101 * 4096, 4096), (300 * 4096, 4096)]
