"""What the tests of the engine share: a look at whether anything is held still, and a reason to skip real devices."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

from labkit.host.probe import probe
from labkit.kernel.dma.iommu import IommuMap
from labkit.kernel.mm.frames.folio import kept
from labkit.trace.page_flags import PG_locked, PG_writeback

settings.register_profile("lab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lab")  # how long an example takes says something of the machine, not of the lab


def pytest_runtest_setup(item):
    if item.get_closest_marker("host") and not (finding := probe()["loop"]).ok:
        pytest.skip(f"no loop devices here: {finding.reason}; {finding.remedy}")


def count_entries(machine):
    """Return how many page table entries begin to map each physical page, by its address: every task, every mapping."""
    found = Counter()
    for vma in (vma for mm in machine.mms for vma in mm.space.vmas):
        for first, last, leaf in vma.table.present(0, vma.pages):
            for addr, nbytes in vma.table.ranges(first, last):
                found.update(range(addr, addr + nbytes, 4096 << (leaf or 0)))
    return found


def nobody_counts(machine):
    """Assert that every reference of every folio is an entry that maps it, or its file's, and that no pin is."""
    assert machine.frames.orphans == []
    entries = count_entries(machine)
    for group in (*machine.folios.by_head.values(), *machine.folios.batches):
        owner = kept(group)
        for folio in group.states():
            start = folio.pfn << 12
            mapped = sum(entries[pa] for pa in range(start, start + (4096 << folio.order), 4096))
            assert (folio.refcount, folio.pincount, folio.mapcount) == (owner + mapped, 0, mapped)


def nobody_waits(volume):
    """Assert that no folio of a file is locked or under writeback, and that every block has its owners (BUF-4)."""
    for cache in volume.caches():
        assert not any(folio.flags & (PG_locked | PG_writeback) for folio in cache.mapping.folios(0, 1 << 40))
    if volume.filesystem is not None:
        assert not any(file.i_rwsem.busy for file in volume.filesystem.files.values())
        volume.filesystem.check()


def nothing_mapped(machine):
    """Assert that the driver holds no request, list or mapping, and that nobody has a device address or a slot."""
    assert getattr(machine.driver, "outstanding", 0) == 0
    if machine.maps is not None:
        assert machine.maps.held == {}
    if machine.nvme is not None:
        assert machine.nvme.pool.in_use == 0
    inner = getattr(machine.dma, "inner", machine.dma)
    for ops in (machine.dma, inner):
        pool = getattr(ops, "swiotlb", None)
        assert pool is None or pool.in_use == 0
    if isinstance(inner, IommuMap):
        assert (inner.queue, inner._live, inner._links) == ([], {}, {})
        assert inner.iovas.used << 12 == inner.iommu.mapped  # what driver and device share for good, and nothing else


@pytest.fixture(scope="session")
def nothing_held():
    """Run the clock out, and assert that no pin, mapping, tag, list or stale address is left (invariants 2 and 5)."""

    def look(machine):
        machine.clock.run()
        assert machine.ledger.held == {}
        nobody_counts(machine)
        nobody_waits(machine.volume)
        assert machine.queue.in_flight == {}
        assert (machine.queue.tags.free, machine.queue.tags.waiting) == (machine.queue.tags.depth, 0)
        nothing_mapped(machine)
        assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
        state = machine.snapshot()
        assert (state.pins, state.dma, state.tags) == ((), (), ())

    return look
