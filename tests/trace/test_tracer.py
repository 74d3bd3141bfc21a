import logging

import pytest

from labkit.trace.events import RECORDS, SysExit
from labkit.trace.tracer import Tracer, typed

EXIT = ("SysExit", 5, 1, "pread64", 4096)


def test_a_tuple_becomes_the_record_that_it_names():
    assert typed(EXIT) == SysExit(t=5, io=1, name="pread64", ret=4096)
    assert type(typed(EXIT)) is SysExit


def test_every_record_begins_with_time_and_io():
    assert len(RECORDS) == 64
    assert all(cls._fields[:2] == ("t", "io") for cls in RECORDS.values())


def test_records_are_kept_in_the_order_in_which_they_came():
    tracer = Tracer()
    tracer.emit(EXIT)
    tracer.emit(("SysExit", 9, 2, "pread64", -14))
    assert tracer.records == (SysExit(5, 1, "pread64", 4096), SysExit(9, 2, "pread64", -14))


def test_a_record_gets_its_type_once():
    tracer = Tracer()
    tracer.emit(EXIT)
    (first,) = tracer.records
    assert tracer.raw == []
    tracer.emit(EXIT)
    assert len(tracer.records) == 2
    assert tracer.records[0] is first


def test_a_record_that_fits_no_type_changes_nothing():
    tracer = Tracer()
    tracer.emit(EXIT)
    tracer.emit(("SysExit", 5))
    for _ in range(2):
        with pytest.raises(TypeError):
            _ = tracer.records
    assert len(tracer.raw) == 2


def test_with_nobody_watching_emit_is_the_append_of_the_list():
    tracer = Tracer()
    assert tracer.emit == tracer.raw.append


def test_a_sink_sees_each_record_as_it_comes():
    seen = []
    tracer = Tracer(seen.append)
    tracer.emit(EXIT)
    assert seen == [SysExit(5, 1, "pread64", 4096)]
    assert tracer.records == tuple(seen)


def test_a_sink_that_raises_is_dropped_and_logged_and_the_run_goes_on(caplog):
    seen, calls = [], []

    def clumsy(record):
        calls.append(record)
        raise RuntimeError("oops")

    tracer = Tracer(clumsy, seen.append)
    with caplog.at_level(logging.ERROR):
        tracer.emit(EXIT)
        tracer.emit(EXIT)
    assert len(calls) == 1
    assert len(seen) == 2
    assert [line.getMessage() for line in caplog.records] == ["a sink raised on SysExit and is dropped"]
    assert len(tracer.records) == 2


def pressed(_record):
    raise KeyboardInterrupt


def test_ctrl_c_in_a_sink_comes_out_at_once_where_nobody_takes_it_and_the_record_is_kept():
    tracer = Tracer(pressed)
    with pytest.raises(KeyboardInterrupt):
        tracer.emit(EXIT)
    assert len(tracer.records) == 1


def test_ctrl_c_in_a_sink_goes_to_who_takes_it_and_the_sink_is_told_on():
    struck, seen = [], []
    tracer = Tracer(pressed, seen.append, struck=struck.append)
    tracer.emit(EXIT)
    tracer.emit(EXIT)
    assert [type(bad) for bad in struck] == [KeyboardInterrupt, KeyboardInterrupt]
    assert len(seen) == 2


@pytest.mark.parametrize(
    "raw", [("SysExit", 5, 1, "pread64"), ("SysExit", 5, 1, "pread64", 4096, 1), ("SysExit",), ("NoSuchThing", 5, 1)]
)
def test_a_record_that_does_not_fit_its_type_raises(raw):
    tracer = Tracer()
    tracer.emit(raw)
    with pytest.raises((TypeError, KeyError)):
        _ = tracer.records
