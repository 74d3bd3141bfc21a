from labkit.trace.events import (
    BlockBioBackmerge,
    BlockBioQueue,
    BlockGetrq,
    BlockPlug,
    BlockRqComplete,
    BlockRqIssue,
    BlockRqMerge,
    BlockSplit,
    BlockUnplug,
    GupPin,
    SysEnter,
)
from labkit.trace.trace import Trace
from labkit.views.journey import NEVER
from labkit.views.pieces import Cut, Part, Plug, pieces
from labkit.widgets.requests import sample

PIN = GupPin(0, 1, 1, "range", 0x7000, ((0x4000, 8192), (0x8000, 4096)), 3, 2, 0, 32)


def test_vectors_are_as_long_as_what_was_pinned():
    found = pieces(Trace((SysEnter(0, 1, "pread64", 3, 0x7000, 12288, 0), PIN, BlockBioQueue(1, 1, 1, 8, 24, 2, 0))))
    assert found.bios[0].vecs == (8192, 4096)


def test_a_bio_that_begins_inside_the_memory_has_the_rest_of_it():
    found = pieces(
        Trace((SysEnter(0, 1, "pread64", 3, 0x7000, 12288, 0), PIN, BlockBioQueue(1, 1, 1, 16, 16, 2, 4096)))
    )
    assert found.bios[0].vecs == (4096, 4096)


def test_vectors_that_nobody_told_of_are_drawn_alike():
    assert pieces(Trace((BlockBioQueue(1, 1, 1, 8, 24, 3, -1),))).bios[0].vecs == (4096, 4096, 4096)


def test_a_cut_is_where_the_front_ends_and_keeps_its_rule():
    found = pieces(Trace((BlockBioQueue(0, 1, 1, 8, 64, 8, 4096), BlockSplit(1, 1, 1, 8, 40, "SPLIT-2", "too much"))))
    assert found.cuts == [Cut(4096 + 16384, "SPLIT-2", "too much", 1)]


def test_what_is_merged_has_the_tag_of_its_request():
    found = pieces(sample()["phyr"])
    assert found.parts == [
        Part(1, 0, 0, 24576, 1, 1, joined=False, issued=8, done=9),
        Part(1, 0, 24576, 24576, 1, 4, joined=True, issued=8, done=9),
        Part(1, 0, 49152, 16384, 2, 6, joined=True, issued=8, done=9),
    ]
    assert (found.requests, found.span) == (1, (0, 65536))


def test_a_request_that_takes_its_neighbour_in_has_all_of_it():
    found = pieces(Trace((
        BlockGetrq(0, 1, 1, 1, 0, 0, 8, 1), BlockGetrq(1, 1, 2, 2, 1, 16, 8, 1),
        BlockBioBackmerge(2, 1, 3, 1, 8, 8, 1), BlockRqMerge(3, 1, 1, 2, 1, 0, 24),
        BlockRqIssue(4, 1, 1, 0, 0, 24), BlockRqComplete(5, 1, 1, 0, 0, 24, 0),
    )))  # fmt: skip
    assert [(part.rq, part.joined, part.issued, part.done) for part in found.parts] == [
        (1, False, 4, 5), (1, True, 4, 5), (1, True, 4, 5),
    ]  # fmt: skip


def test_a_plug_holds_its_requests_until_it_is_pulled():
    records = (BlockGetrq(0, 1, 1, 1, 0, 0, 8, 1), BlockPlug(0, 1), BlockGetrq(1, 1, 2, 2, 1, 16, 8, 1))
    assert pieces(Trace((*records, BlockUnplug(2, 1, 2)))).plugs == [Plug([1, 2], 1, 3)]
    assert pieces(Trace(records)).plugs == [Plug([1, 2], 1, NEVER)]


def test_memory_of_the_kernel_stands_beside_the_callers_on_the_same_axis():
    zeros, data = BlockBioQueue(2, 1, 1, 192, 2, 1, -1), BlockBioQueue(3, 1, 2, 194, 2, 1, 0)
    assert [bio.start for bio in pieces(Trace((zeros, data))).bios] == [-1024, 0]
    assert [bio.start for bio in pieces(Trace((zeros,))).bios] == [192 * 512]
