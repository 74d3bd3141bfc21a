"""What the tests of the engine share: a look at whether anything is held still, and a reason to skip real devices."""

import pytest

from labkit.host.probe import probe
from labkit.kernel.dma.iommu import IommuMap


def pytest_runtest_setup(item):
    if item.get_closest_marker("host") and not (finding := probe()["loop"]).ok:
        pytest.skip(f"no loop devices here: {finding.reason}; {finding.remedy}")


@pytest.fixture(scope="session")
def nothing_held():
    """Run the clock out, and assert that no pin, mapping, tag, list or stale address is left (invariants 2 and 5)."""

    def look(machine):
        machine.clock.run()
        assert machine.ledger.held == {}
        refs = {0: 1, 4: 16, 9: 1}
        for folio in machine.folios.by_head.values():
            assert (folio.refcount, folio.pincount) == (refs[folio.order], 0)
        assert machine.queue.in_flight == {}
        assert sorted(machine.queue._free) == list(range(machine.queue.limits.nr_requests))
        assert not machine.queue._waiting
        if machine.nvme is not None:
            assert machine.nvme.mappings == {}
            assert machine.nvme.pool.in_use == 0
        if isinstance(machine.dma, IommuMap):
            assert machine.dma.queue == []
            assert len(machine.dma._iommu.ioptes) == 16 + 4 + 1024  # submission queue, completion queue, list pool
        assert machine.snapshot() == machine.trace.state_at(machine.clock.now)
        state = machine.snapshot()
        assert (state.pins, state.dma, state.tags) == ((), (), ())

    return look
