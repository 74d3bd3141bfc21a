from labkit.trace.events import BlockRqComplete, BlockRqIssue
from labkit.trace.trace import Trace
from labkit.views.export.moment import busiest


def test_the_busiest_moment_is_in_the_middle_of_most_requests():
    records = [
        BlockRqIssue(10, 1, 1, 0, 0, 8),
        BlockRqIssue(20, 1, 2, 1, 8, 8),
        BlockRqComplete(40, 1, 1, 0, 0, 8, 0),
        BlockRqComplete(90, 1, 2, 1, 8, 8, 0),
    ]
    assert busiest(Trace(tuple(records))) == 30


def test_where_nothing_is_in_flight_there_is_no_such_moment():
    assert busiest(Trace(())) is None
    assert busiest(Trace((BlockRqIssue(10, 1, 1, 0, 0, 8),))) is None
