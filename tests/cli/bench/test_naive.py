import pytest

from labkit.cli.bench.engine import drive_of, machine_of
from labkit.cli.bench.naive import PAGE, NaiveMachine


@pytest.fixture
def naive():
    with machine_of() as machine:
        yield NaiveMachine(machine.cpu, drive_of(machine), machine.queue.limits, [5, 6, 9], machine.medium.media)


def test_a_walk_finds_the_frames_page_by_page(naive):
    naive.map_page(naive.address(0) + PAGE, 7)
    assert list(naive.walk(naive.address(0) + 512, PAGE)) == [(5 * PAGE + 512, PAGE - 512), (7 * PAGE, 512)]


def test_a_page_without_rights_is_refused(naive):
    naive.page_table[naive.address(0) >> 39 & 511][naive.address(0) >> 30 & 511][0][0] &= ~2
    with pytest.raises(PermissionError):
        list(naive.walk(naive.address(0), PAGE))


def test_nothing_is_held_when_all_is_done(naive):
    for index in range(3):
        naive.env.process(naive.job(index, [(100, 4096 * index)] * 200))
    naive.env.run()
    assert len(naive.done) == 600
    assert (naive.pins, len(naive.tags.items)) == ({}, naive.limits.nr_requests)
    assert len(naive.iommu) == 64  # the queues
