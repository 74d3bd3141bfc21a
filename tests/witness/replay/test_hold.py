"""What nobody traces: pins, vectors, segments."""

from labkit.trace.events import BlockBioQueue, BlockGetrq, GupPin
from labkit.witness.capture import Capture
from labkit.witness.replay import story


def told(row):
    return story(Capture.of(row))


def test_vectors_and_segments_are_the_same_with_and_without_bpf(real):
    if any(bio.get("bvecs_truncated") for bio in real["bios"]):
        return
    seen, guessed = told(real), told(real | {"bios": None})
    own = {rec.bio for rec in seen.of(BlockBioQueue) if rec.start >= 0}
    for kind in (BlockBioQueue, BlockGetrq):
        assert [rec for rec in seen.of(kind) if rec.bio in own] == [rec for rec in guessed.of(kind) if rec.bio in own]


def test_a_registered_buffer_is_pinned_before_the_call_and_not_by_it(captured):
    (pin,) = told(captured("42")).of(GupPin)
    assert (pin.t, pin.io, sum(n for _, n in pin.ranges)) == (0, 0, 2 << 20)


def test_the_zero_page_is_pinned_without_an_atomic(captured):
    (pin,) = told(captured("25")).of(GupPin)
    assert (pin.atomics, pin.struct_pages, len(set(pin.ranges))) == (0, 16, 1)


def test_a_folio_of_2_mib_takes_one_atomic_and_small_pages_one_each(captured):
    assert [pin.atomics for pin in told(captured("07")).of(GupPin)] == [1]
    assert [pin.atomics for pin in told(captured("05")).of(GupPin)] == [256]


def test_each_piece_of_an_iovec_is_pinned_by_itself(captured):
    pins = told(captured("20")).of(GupPin)
    assert sum(pin.struct_pages for pin in pins) == 300


def test_memory_that_pagemap_does_not_tell_of_is_not_made_up(captured):
    row = captured("01") | {"bios": None}
    row["layout"]["before"] = []
    trace = told(row)
    assert trace.of(GupPin) == ()
    assert [rec.vecs for rec in trace.of(BlockBioQueue)] == [0]
