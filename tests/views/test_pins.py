"""Who holds a page, typed out for two phyrs of one read, and for pages that two IOs share."""

from dataclasses import replace

import pytest

from labkit.scatter.range_array import RangeArray
from labkit.trace.events import GupPin, GupUnpin, Hazard, MmPageAlloc, MmPageFree, SysEnter, Violation
from labkit.trace.trace import Trace
from labkit.views.blame import said, wrong
from labkit.views.holders import MOST_ROWS, Held, Piece, pieces
from labkit.views.journey import NEVER
from labkit.views.pins import headline, pins, steps, struck

ONE = Held(1, 1, "pread64", "range", 3, 15)
SHARED = Trace(
    (
        MmPageAlloc(0, 0, 0x7000, 0, 1, ((0x4000, 16384),)),
        SysEnter(10, 1, "pread64", 3, 0x7000, 16384, 0),
        GupPin(20, 1, 1, "page", 0x7000, ((0x4000, 16384),), 4, 4, 4, 32),
        SysEnter(30, 2, "pwrite64", 3, 0x8000, 4096, 0),
        GupPin(40, 2, 2, "range", 0x8000, ((0x5000, 4096),), 1, 1, 0, 16),
        Hazard(50, 1, "munmap", "the buffer goes"),
        GupUnpin(60, 1, 1, 4, 4),
        Violation(70, 2, "bytes", 6, "it was let go of too early", 0x5000, "a5a5", "a500"),
    )
)


def test_each_run_of_one_history_is_a_row(small):
    life = ((1, NEVER),)
    assert pieces(small) == (
        [Piece(0x4000_0000, 8192, 1, (ONE,), life), Piece(0x4000_5000, 4096, 1, (ONE,), life)],
        0,
    )


def test_memory_that_two_hold_is_a_row_of_its_own():
    found, left_out = pieces(SHARED)
    assert left_out == 0
    assert [(piece.addr, piece.nbytes, [held.io for held in piece.held]) for piece in found] == [
        (0x4000, 4096, [1]), (0x5000, 4096, [1, 2]), (0x6000, 8192, [1]),
    ]  # fmt: skip


def test_a_bar_lasts_from_the_pin_to_the_unpin_and_to_the_end_if_there_is_none():
    bars = pins(SHARED).bars
    rows = zip(bars["row"], bars["begin"], bars["end"], bars["hue"], bars["label"], strict=True)
    assert list(rows) == [
        (0, 2, 6, 0, "IO 1 (pread64): page"),
        (1, 2, 6, 0, "IO 1 (pread64): page"),
        (1, 4, 7, 1, "IO 2 (pwrite64): range"),
        (2, 2, 6, 0, "IO 1 (pread64): page"),
    ]
    assert bars["top"][1] < bars["bottom"][1] <= bars["top"][2], "pins at the same time lie under each other"


def test_a_row_says_who_holds_it_since_when_and_who_will_let_go():
    told = said(SHARED)[0]
    assert told.at == [0, 2, 6]
    nobody = "Frame 0x4: nobody holds it. Its folio of 4 KiB has refcount 1, pincount 0, mapcount 1."
    assert (told.text[0], told.text[2]) == (nobody, nobody)
    assert told.text[1] == (
        "Frame 0x4: IO 1 (pread64) holds it by policy page since 20 ns; unpin_user_pages lets go of it at 60 ns, "
        "event 7. Its folio of 4 KiB has refcount 1,025, pincount 0, mapcount 1: each pin is 1,024 references (MM-13)."
    )
    assert told.counts == [("1", "0", "1"), ("1,025", "0", "1"), ("1", "0", "1")]


def test_two_holders_are_both_named_and_one_never_lets_go():
    text = said(SHARED)[1].text[2]
    assert text.startswith("Frame 0x5: IO 1 (pread64) holds it by policy page since 20 ns; ")
    assert " and IO 2 (pwrite64) holds it by policy range since 40 ns; no event of this trace lets go of it. " in text
    assert text.endswith("the pin is in the ledger, and in none of them.")


def test_hazards_and_violations_are_marks_and_wrong_bytes_are_kept():
    picture = pins(SHARED)
    assert (picture.marks["at"], picture.marks["kind"]) == ([5, 7], ["hazard", "broken"])
    top, bottom = picture.rows[1][:2]
    assert picture.marks["struck"][1] == (top + bottom) / 2
    assert picture.marks["struck"][0] < 0
    assert wrong(SHARED) == [(7, "bytes: it was let go of too early, at 0x5000", "a5a5", "a500")]
    assert struck(SHARED) == 1


def test_a_wrong_page_that_nobody_pinned_is_a_row_too():
    stray = Violation(80, 0, "bytes", 6, "memory of its next owner is not as that one left it", 0x9010, "00", "ff")
    found, _ = pieces(Trace((*SHARED.records, stray)))
    assert found[-1][:4] == (0x9000, 4096, 1, ())
    assert said(Trace((*SHARED.records, stray)))[-1].text[0].startswith("Frame 0x9: nobody holds it.")


def test_who_counts_nowhere_is_said_to(small):
    records = (small.records[1], small.records[3]._replace(policy="none", token=9))
    text = said(Trace(records))[0].text[-1]
    assert "IO 1 uses it and counts nowhere (policy none) since 220 ns" in text
    assert text.endswith("mapcount 1.")


def test_the_headline_counts_pins_and_what_went_wrong(small, traces):
    assert headline(small) == ("Who holds this page? One pin on 12 KiB", "Every pin is let go of.")
    assert headline(SHARED) == (
        "Who holds this page? Two pins on 16 KiB",
        "One pin is never let go of, one hazard, one broken invariant.",
    )
    assert headline(traces.EMPTY)[0] == "Nobody held a page"


def test_each_record_is_a_step(small):
    assert len(steps(small)) == 17
    assert steps(small)[3][:2] == ("220 ns", "pin")
    assert steps(small)[3][3:] == ("get_user_phyrs", "proposed")


def test_memory_without_struct_pages_has_no_counts():
    pin = GupPin(20, 1, 1, "range", 0x7000, ((0x20_0000_0000, 4096),), 1, 1, 0, 16)
    (told,) = said(Trace((SysEnter(10, 1, "pread64", 3, 0x7000, 4096, 0), pin)))
    assert told.counts[-1] == ("–", "–", "–")
    assert told.text[-1].endswith("No struct page counts here.")


def test_what_was_freed_is_said_to_be():
    records = (*SHARED.records[:3], GupUnpin(60, 1, 1, 4, 4), MmPageFree(70, 0, 0, ((0x4000, 16384),)))
    (told,) = said(Trace(records))
    assert told.text[-1] == "Frames 0x4 to 0x7: nobody holds it. It is freed, and may be somebody else's by now."
    assert pieces(Trace(records))[0][0].lives == ((0, 4),)


def test_memory_that_is_freed_and_allocated_again_has_two_lives():
    records = (
        *SHARED.records[:3], GupUnpin(60, 1, 1, 4, 4), MmPageFree(70, 0, 0, ((0x4000, 16384),)),
        MmPageAlloc(80, 0, 0x9000, 0, 1, ((0x4000, 16384),), 1),
    )  # fmt: skip
    assert pieces(Trace(records))[0][0].lives == ((0, 4), (5, NEVER))
    assert said(Trace(records))[0].text[-1].endswith("mapcount 1. It was freed, and allocated again at 80 ns.")
    assert pins(Trace(records)).lives["begin"] == [0, 5]


def test_many_ranges_of_one_history_share_a_row(traces):
    found, left_out = pieces(traces.scattered(256))
    assert (len(found), left_out) == (1, 0)
    assert (found[0].ranges, found[0].nbytes) == (len(pieces_of(traces.scattered(256))), 1 << 20)


def pieces_of(trace):
    """Return the runs of physical memory that the pin of a scattered trace covers, joined where they touch."""
    pages = sorted(addr for addr, _ in trace.of(GupPin)[0].ranges)
    return [page for i, page in enumerate(pages) if i == 0 or page != pages[i - 1] + 4096]


def test_rows_are_bounded_and_what_is_left_out_is_counted():
    pinned = [GupPin(i, i, i, "range", 0, ((i << 13, 4096),), 1, 1, 0, 16) for i in range(1, MOST_ROWS + 6)]
    found, left_out = pieces(Trace(tuple(pinned)))
    assert (len(found), left_out) == (MOST_ROWS, 5)
    assert headline(Trace(tuple(pinned)))[1].endswith("5 more pieces of memory are not drawn.")


def test_ranges_in_columns_are_the_same(small):
    ranges = RangeArray([0x4000_0000, 0x4000_5000], [8192, 4096])
    records = tuple(
        rec._replace(ranges=ranges) if isinstance(rec, GupPin | MmPageAlloc) else rec for rec in small.records
    )
    assert said(replace(small, records=records)) == said(small)


@pytest.mark.parametrize("width", [668, 1568])
def test_time_lies_between_the_names_and_the_counts(small, width):
    picture = pins(small, width)
    assert picture.edges[0] <= min(picture.scales["time"])
    assert max(picture.scales["events"]) <= picture.edges[1] < picture.count_x[0] < picture.count_x[2] < width


def test_a_pin_that_nobody_ends_has_no_end():
    assert Held(1, 1, "", "page", 0).end == NEVER
