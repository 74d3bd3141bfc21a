from typing import NamedTuple

from labkit.views.event_rows import MOST, TOLD, headline, lines, off, step, tip
from labkit.widgets.sequence import sample
from labkit.witness.tracepoints import BY_RECORD


class Row(NamedTuple):
    kernel_ns: int | None
    kernel: str
    model_ns: int | None
    model: str
    mark: str


class Count(NamedTuple):
    name: str
    kernel: int | None
    model: int | None
    certain: bool = True


def both(t, text):
    return Row(2 * t, text, t, text, "same")


def test_each_row_is_on_both_sides_on_one_or_such_as_only_one_can_tell():
    rows = [
        both(0, "block_plug"), Row(1, "block_split", None, "", "only"), Row(None, "", 1, "block_getrq", "only"),
        Row(1, "block_getrq 0+8", 1, "block_getrq 0+16", "only"), Row(None, "", 2, "GupPin ranges=1", "only"),
        Row(3, "block_io_done", None, "", "only"),
    ]  # fmt: skip
    assert [line.side for line in lines(rows)] == ["both", "kernel", "model", "differ", "own", "own"]


def test_of_many_rows_those_that_agree_are_folded_and_those_that_differ_are_not():
    rows = [both(i, f"block_getrq {i}+8") for i in range(MOST)]
    assert len(lines(rows)) == MOST
    rows.insert(150, Row(301, "block_rq_insert", None, "", "only"))
    found = lines(rows)
    assert len(found) == 51
    assert [line.rows for line in found if line.rows > 1] == [126, 126]
    assert found[12].upto == (274, 137)
    assert found[25].kernel == "block_rq_insert"
    assert sum(line.rows for line in found) == MOST + 1
    assert step(found[12]).text == "126 events more in which nothing differs."


def test_what_both_can_tell_is_what_the_witness_lays_side_by_side():
    assert set(BY_RECORD) == TOLD


def test_a_call_of_the_ring_is_the_kernels_own_and_one_that_is_missed_is_not():
    rows = [Row(0, name, None, "", "only") for name in ("sys_enter_io_uring_enter", "sys_exit_pread64 ret=0")]
    assert [line.side for line in lines(rows)] == ["own", "kernel"]


def test_plugs_of_a_worker_are_not_missed_where_none_were_recorded():
    plug = Row(None, "", 1, "block_plug", "only")
    assert [line.side for line in lines([plug])] == ["own"]
    assert [line.side for line in lines([plug, both(2, "block_plug")])] == ["model", "both"]


def test_what_only_one_side_can_tell_is_folded_with_what_agrees():
    rows = [row for i in range(MOST) for row in (both(i, "block_plug"), Row(None, "", i, "DeviceStart", "only"))]
    assert [line.rows for line in lines(rows)] == [1] * 12 + [576] + [1] * 12


def test_pointing_at_a_line_tells_both_sides_of_it():
    (line,) = lines([Row(2000, "block_plug", 1000, "block_plug", "same")])
    assert tip(line) == (
        "the same on both sides", "kernel, after 2.00 µs: block_plug", "model, after 1.00 µs: block_plug",
    )  # fmt: skip


def test_a_count_is_off_only_where_it_is_known_and_has_to_be_equal():
    counts = [Count("a", 1, 2), Count("b", 1, 1), Count("c", None, 2), Count("d", 1, 2, certain=False)]
    assert [off(count) for count in counts] == [True, False, False, False]


def test_the_headline_tells_what_is_not_the_same():
    head, under = headline(*sample())
    assert head == "12 of 14 events are the same"
    assert under == (
        "Only the kernel has one event; only the model has one event; one event more that one side alone can tell; "
        "counts that differ: requeues."
    )
    assert headline([both(0, "a")])[0] == "The one event is the same"
    quiet = headline([both(0, "a"), Row(None, "", 5, "GupPin", "only"), Row(9, "block_io_start", None, "", "only")])
    assert quiet == (
        "The one event is the same", "Two events more that one side alone can tell; every count is equal.",
    )  # fmt: skip
    assert headline([])[0] == "No events"
