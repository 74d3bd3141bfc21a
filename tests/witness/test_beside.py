"""Model beside kernel: what is the same stands in one row, and every count of every capture is the model's."""

from collections import Counter

import pytest

from labkit.errors import BadInput
from labkit.witness.beside import HERE, SAME, THERE, Pair, beside
from labkit.witness.capture import Capture
from labkit.witness.like import like


def both(values, **knobs):
    capture = Capture.of(values)
    return beside(capture, like(capture, **knobs))


def test_every_count_that_was_recorded_is_the_models_pins_too(real):
    if Capture.of(real).mode == "p2p":
        pytest.skip("memory of another device has no place in a machine like it")
    found = both(real)
    assert {count.name: count.residual for count in found.counts if count.residual} == {}
    assert found.exact


def test_whatever_both_know_of_is_the_same_in_a_call(captured):
    rows = both(captured("18-synth")).rows
    assert {row.mark for row in rows} == {SAME, HERE}
    assert not {row.model.split()[0] for row in rows if row.mark == HERE} & {
        row.kernel.split()[0] for row in rows if row.mark == SAME
    }


def test_one_page_side_by_side(captured):
    rows = both(captured("01-one-page")).rows
    assert [(row.kernel, row.model, row.mark) for row in rows] == [
        ("sys_enter_pread64", "sys_enter_pread64", SAME), ("", "BlkdevDirectIO pos=0 nbytes=4096", HERE),
        ("", "GupPin ranges=1", HERE), ("block_bio_queue 0+8", "block_bio_queue 0+8", SAME),
        ("block_getrq 0+8", "block_getrq 0+8", SAME), ("block_plug", "block_plug", SAME),
        ("block_unplug nr_rq=1", "block_unplug nr_rq=1", SAME), ("", "LoRwAio pos=0 len=4096", HERE),
        ("block_rq_issue 0+8", "block_rq_issue 0+8", SAME), ("", "DeviceStart", HERE), ("", "DeviceDma len=4096", HERE),
        ("block_rq_complete 0+8", "block_rq_complete 0+8", SAME), ("", "GupUnpin", HERE),
        ("sys_exit_pread64 ret=4096", "sys_exit_pread64 ret=4096", SAME),
    ]  # fmt: skip
    assert (rows[0].kernel_ns, rows[0].model_ns, rows[3].kernel_ns) == (0, 0, 11500)


def test_each_row_says_where_it_stands_in_both(captured):
    values = captured("24-iov")
    capture = Capture.of(values)
    done = like(capture)
    for row in beside(capture, done).rows:
        if row.mark == SAME:
            assert values["events"][row.event]["event"].endswith(row.kernel.split()[0])
            assert done.trace.records[row.record].t >= row.model_ns
        else:
            assert (row.event, row.kernel_ns) == (-1, None)


def test_what_is_recorded_and_nowhere_predicted_stands_alone(captured):
    values = captured("01-one-page")
    values["events"].insert(3, values["events"][1] | {"sector": 800, "t_ns": 40000})
    found = both(values)
    alone = [row for row in found.rows if row.mark == THERE]
    assert alone == [Pair(18834, "block_bio_queue 800+8", None, "", THERE, 3, -1)]
    assert {count.name: count.residual for count in found.counts if count.residual} == {"bios": -1}
    assert not found.exact


def test_events_of_another_device_are_nobodys(captured):
    values = captured("01-one-page")
    values["events"].append(values["events"][1] | {"dev": 266338304, "by": "other"})
    assert both(values).exact


def test_a_completion_that_comes_early_is_found_by_its_sectors(captured):
    values = captured("15-synth")
    done = [event for event in values["events"] if event["event"] == "block:block_rq_complete"]
    done[0]["t_ns"], done[-1]["t_ns"] = done[-1]["t_ns"], done[0]["t_ns"]
    assert Counter(row.mark for row in both(values).rows)[THERE] == 0


def test_what_was_not_recorded_has_no_residual(captured):
    values = captured("01-one-page") | {"events": None, "bios": None, "pins": None, "result": None}
    found = both(values)
    assert {count.kernel for count in found.counts} == {None}
    assert found.exact
    assert {row.mark for row in found.rows} == {HERE}


def test_plugs_are_not_certain_where_tags_run_out(captured):
    counts = {count.name: count.certain for count in both(captured("37-tag")).counts}
    assert (counts["plugs"], counts["unplugs"], counts["requests"], counts["pins"]) == (False, False, True, False)
    assert {count.name for count in both(captured("33-max64k")).counts if not count.certain} == {"pins", "unpins"}


def test_plugs_of_a_worker_are_nobodys(captured):
    counts = {count.name: count.kernel for count in both(captured("39-uring")).counts}
    assert (counts["plugs"], counts["unplugs"], counts["requests"]) == (None, None, 2)


def test_a_registration_is_none_of_the_IOs_pins(captured):
    counts = {count.name: (count.kernel, count.model) for count in both(captured("42-uring")).counts}
    assert counts["pins"] == counts["unpins"] == (0, 0)


def test_another_currency_is_laid_beside_the_kernel_too(captured):
    found = both(captured("28-half"), system="phyr")
    assert {count.name: count.residual for count in found.counts}["bytes"] == -32768
    assert not found.exact


def test_a_broken_record_is_refused(captured):
    values = captured("01-one-page")
    del values["events"][1]["sector"]
    with pytest.raises(BadInput, match=r"has a broken record: KeyError 'sector' \(-EINVAL\)"):
        both(values)


def test_who_merges_is_not_certain_where_several_workers_send(captured):
    values = captured("39-uring")
    values["io"] = [values["io"][0] | {"pos": pos} for pos in (0, 1 << 20)]
    values |= {"batch": 2, "result": [1 << 20] * 2, "events": [], "bios": None, "pins": None}
    certain = {count.name for count in both(values).counts if count.certain}
    assert certain == {"bios", "splits", "vectors", "bytes"}


def test_the_device_is_that_of_the_worker_where_the_submitter_sent_nothing(captured):
    values = captured("39-uring")
    values["events"] = [
        event for event in values["events"] if event["by"] != "submitter" or not event["event"].startswith("block:")
    ]
    counts = {count.name: (count.kernel, count.model) for count in both(values).counts}
    assert (counts["bios"], counts["requests"]) == ((1, 2), (2, 2))


def test_two_events_in_the_other_order_are_one_that_is_out_of_place(captured):
    values = captured("33-max64k")
    first, second = [event for event in values["events"] if event["event"] == "block:block_getrq"][40:42]
    first["t_ns"], second["t_ns"] = second["t_ns"], first["t_ns"]
    names = "block_split", "block_getrq"
    alone = [row for row in both(values).rows if (row.kernel or row.model).split()[0] in names and row.mark != SAME]
    assert Counter(row.mark for row in alone) == {THERE: len(alone) // 2, HERE: len(alone) // 2}
    assert 2 <= len(alone) <= 4


def test_plugs_of_a_worker_are_nobodys_where_the_ring_tells_nothing_too(captured):
    values = captured("39-uring")
    values["events"] = [event for event in values["events"] if event["event"].startswith("block:")]
    counts = {count.name: count.kernel for count in both(values).counts}
    assert (counts["plugs"], counts["unplugs"], counts["requests"]) == (None, None, 2)


def test_vectors_are_those_that_were_read_and_not_what_is_left_of_a_registered_table(captured):
    values = captured("42-uring")
    for bio in values["bios"]:
        bio["vcnt"] += 100
    assert {count.name: count.residual for count in both(values).counts}["vectors"] == 0


def test_vectors_that_nobody_read_have_no_residual(captured):
    (count,) = (count for count in both(captured("01-one-page") | {"bios": []}).counts if count.name == "vectors")
    assert (count.kernel, count.residual) == (None, None)


def test_what_is_foreign_is_neither_shown_nor_counted(captured):
    values = captured("01-one-page")
    values["events"] += [event | {"by": "foreign", "sector": 4096} for event in values["events"] if "sector" in event]
    found = both(values)
    assert found.exact
    assert found.rows == both(captured("01-one-page")).rows


def test_of_a_ring_on_a_file_only_the_bytes_are_certain(captured):
    values = captured("53-ext4")
    values |= {"io": [values["io"][0] | {"api": "io_uring_read"}], "events": None, "bios": None}
    assert {count.name for count in both(values).counts if count.certain} == {"bytes"}


@pytest.mark.parametrize("broken", [{"events": [{"nr_rq": float("inf")}]}, {"bios": [{"bvecs": 1}]}])
def test_a_figure_that_is_none_is_refused(captured, broken):
    values = captured("01-one-page")
    for name, (change,) in broken.items():
        values[name] = [each | change if change.keys() & each.keys() else each for each in values[name]]
    with pytest.raises(BadInput, match="has a broken record"):
        both(values)
