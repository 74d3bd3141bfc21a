import pytest

from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.sched.by_sector import BySector
from labkit.kernel.block.split import Piece

LIMITS = QueueLimits(max_sectors=64, max_segments=4)


class Reader:
    write, opf = False, 0

    def __init__(self, cls):
        self.cls = cls


def joins(table, rq, sector):
    """Return which request one page at `sector` would join, and at which side."""
    found = table.bio_merge(Reader(rq.cls), Piece(((0x9000, 4096),), 4096, 1), sector, LIMITS)
    return found and (found[0].rq, found[1])


def table_of(*rqs):
    table = BySector()
    for rq in rqs:
        table.add(rq)
    return table


def test_the_first_request_at_a_sector_or_behind_it_is_found(make_rq):
    rqs = [make_rq(sector) for sector in (80, 16, 48, 16)]
    table = table_of(*rqs)
    assert [found and found.rq for found in map(table.at_or_behind, (0, 16, 17, 48, 49, 80, 81))] == [
        2, 2, 3, 3, 1, 1, None,
    ]  # fmt: skip
    table.remove(rqs[1])
    assert (table.at_or_behind(0).rq, len(table), rqs[1] in table, rqs[3] in table) == (4, 3, False, True)


@pytest.mark.parametrize(("sector", "found"), [(24, (1, ("back", 1))), (8, (1, ("front", 1))), (32, None), (16, None)])
def test_a_piece_joins_the_request_that_it_continues(make_rq, sector, found):
    rq = make_rq(16)
    assert joins(table_of(rq), rq, sector) == found


def test_a_request_that_has_grown_is_found_at_its_new_ends_only(make_rq):
    rq = make_rq(16)
    table = table_of(rq)
    rq.add(((0x9000, 4096),), 4096, 1, front=True)
    table.move(rq)
    assert [joins(table, rq, sector) for sector in (8, 0, 24)] == [None, (1, ("front", 1)), (1, ("back", 1))]
    table.remove(rq)
    assert len(table) == 0
    assert table.at_or_behind(0) is None


def test_a_request_that_is_full_is_passed_over_for_one_that_is_not(make_rq):
    full, free = make_rq(16, nr=64), make_rq(72)
    assert joins(table_of(full, free), free, 80) == (2, ("back", 1))


@pytest.mark.parametrize(("grown", "pair"), [(0, (1, 2)), (1, (1, 2))])
def test_neighbours_become_one_whichever_of_them_grew(make_rq, grown, pair):
    rqs = [make_rq(16), make_rq(24)]
    table = table_of(*rqs)
    found = table.merge_neighbour(rqs[grown], LIMITS)
    assert tuple(rq.rq for rq in found) == pair
    assert (rqs[0] in table, rqs[1] in table) == (True, False)


@pytest.mark.parametrize("other", [{"sector": 32}, {"sector": 24, "nr": 64}])
def test_no_neighbour_that_does_not_touch_or_does_not_fit(make_rq, other):
    rqs = [make_rq(16), make_rq(**other)]
    assert table_of(*rqs).merge_neighbour(rqs[0], LIMITS) is None
