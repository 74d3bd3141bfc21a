import errno

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.gup.gup import pin_user_pages, unpin_user_pages
from labkit.kernel.mm.pin.dirty import mark_dirty
from labkit.trace.page_flags import PG_dirty, PG_uptodate
from labkit.trace.state import state_at
from labkit.trace.tracer import typed

KIB, MIB = 1 << 10, 1 << 20
POS = st.one_of(st.integers(0, 64).map(lambda n: n * 4096), st.integers(0, 300 * KIB))
SIZE = st.one_of(st.integers(1, 9000), st.integers(1, 40).map(lambda n: n * 4096))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), POS, SIZE),
        st.tuples(st.just("write"), POS, SIZE, st.integers(0, 255)),
        st.tuples(st.just("sync"), POS, SIZE),
        st.tuples(st.just("drop"), POS, SIZE),
    ),
    max_size=12,
)


def do(world, model, steps):
    """Do `steps` to a world, and to a plain bytearray."""
    for what, pos, size, *more in steps:
        match what:
            case "read":
                assert world.read(pos, size) == bytes(model[pos : pos + size])
            case "write":
                assert world.write(pos, bytes(more) * size) == size
                model.extend(bytes(max(0, pos - len(model))))
                model[pos : pos + size] = bytes(more) * size
            case "sync":
                world.sync(pos, size)
                assert not world.cache.needs_writeback(pos, size)
            case "drop":
                world.sync()
                world.drop(pos, size)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, state=st.sampled_from(["mapped", "unwritten", "hole"]), block=st.sampled_from([512, 4096]))
def test_both_completions_leave_the_same_cache_which_reads_as_a_bytearray_does(world, steps, state, block):
    found = []
    for completion in ("phys_to_folio", "folio_walk"):
        one = world(100 * KIB + 100, block, state, completion)
        model = bytearray(one.on_disk(0, 100 * KIB + 100) if state == "mapped" else 100 * KIB + 100)
        do(one, model, steps)
        assert one.file.i_size == len(model)
        assert one.read(0, len(model) + 1) == bytes(model)
        states, moved = one.look(), list(one.device.bios)
        one.run(one.cache.fsync(9))
        one.drop()
        assert one.cache.nrpages == 0
        assert one.read(0, len(model)) == bytes(model)
        found.append((states, moved, bytes(one.device.disk)))
        one.look()
    assert found[0] == found[1]


AT_ONCE = st.lists(
    st.tuples(
        st.sampled_from(["read", "write", "sync", "drop", "flusher", "fsync", "break", "mend"]),
        st.integers(0, 90 * KIB), st.integers(1, 64 * KIB), st.integers(0, 3000),
    ),
    min_size=2, max_size=10,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=AT_ONCE, how=st.sampled_from(["phys_to_folio", "folio_walk"]), block=st.sampled_from([512, 4096]))
def test_many_at_once_over_a_device_that_fails_leave_nothing_locked_and_every_byte_is_somebodys(
    world, steps, how, block
):
    one = world(100 * KIB, block, completion=how)
    initial, mine, errors = one.on_disk(0, 200 * KIB), [], set()

    def act(tag, what, pos, size, delay):
        yield delay
        try:
            yield from one.verb(what, pos, size, tag)
        except SyscallError as bad:
            errors.add(bad.errno)

    for tag, (what, pos, size, delay) in enumerate(steps, 1):
        mine += [(tag, range(pos, pos + size))] if what == "write" else []
        one.env.job(act(tag, what, pos, size, delay))
    one.look()
    assert errors <= {errno.EIO, errno.EBUSY}
    one.device.broken.clear()
    one.run(one.cache.fsync(9)) if not one.cache._core.error else None
    data = one.read(0, 200 * KIB)
    assert len(data) == one.file.i_size
    theirs = {at: {tag for tag, span in mine if at in span} for at in range(0, len(data), 509)}
    assert all(data[at] in {initial[at] if at < 100 * KIB else 0, *tags} for at, tags in theirs.items())


def test_a_completion_that_is_none_is_refused(world):
    with pytest.raises(BadInput, match=r"page cache: completion='guess' is none of phys_to_folio, .* \(-EINVAL\)"):
        world(completion="guess")


@pytest.mark.parametrize(("how", "origin"), [("phys_to_folio", "proposed"), ("folio_walk", "upstream")])
def test_the_end_of_a_bio_tells_how_it_found_its_folios(world, how, origin):
    one = world(completion=how)
    one.read(0, 65536)
    ends = one.records("FolioEndIo")
    assert {(end.how, end.origin) for end in ends} == {(how, origin)}
    assert sum(end.folios for end in ends) == len(one.folios())
    assert all(end.lookups + end.steps == end.folios for end in ends)
    assert sum(end.steps for end in ends) == (0 if how == "phys_to_folio" else sum(end.folios - 1 for end in ends))


def test_a_direct_write_finds_what_is_dirty_before_it_drops_it(world):
    one = world()
    one.write(0, b"a" * 8192)
    assert one.cache.needs_writeback(4096, 1)
    with pytest.raises(SyscallError, match=r"1 folios of data are dirty again, and stay .* \(DIO-18\) \(-EBUSY\)"):
        one.drop(0, 8192)
    one.sync(0, 8192)
    assert not one.cache.needs_writeback(0, 8192)
    one.drop(0, 8192)
    assert one.cache.nrpages == 0
    assert one.on_disk(0, 8192) == b"a" * 8192
    one.look()


def test_what_is_on_its_way_to_the_device_is_waited_for_before_it_is_dropped(world):
    one = world()
    one.write(0, b"a" * 4096)
    one.run(one.cache.flusher())
    one.drop(0, 4096)
    assert one.on_disk(0, 4096) == b"a" * 4096
    assert one.cache.nrpages == 0
    one.look()


def test_what_is_dropped_is_unmapped_and_a_copy_of_a_page_is_not(world):
    one = world()
    one.run(one.cache.fault(1, 0, 2))
    shared, at = one.mmap(8192)
    private, copy = one.mmap(8192, shared=False)
    one.store(private, copy, b"mine")
    one.store(shared, at, b"ours")
    one.sync()
    one.drop()
    assert one.cache.nrpages == 0
    assert shared.space.vmas[0].table.gaps(0, 2) == [(0, 2)]
    assert private.space.vmas[0].table.gaps(0, 2) == [(1, 2)]
    assert one.on_disk(0, 4) == b"ours"
    one.look()


def test_a_pinned_folio_is_dropped_all_the_same_and_lives_on_with_who_pinned_it(world):
    one = world()
    one.run(one.cache.fault(1, 0))
    mm, at = one.mmap(4096)
    pages = pin_user_pages(mm, at, 1, write=True)
    one.sync()
    one.drop()
    assert (one.cache.nrpages, len(one.frames.orphans)) == (0, 1)
    one.ram.scatter(pages.runs, b"lost" * 1024)  # a read into one's own mapping: the data is in no file (D-7)
    unpin_user_pages(mm, pages.runs)
    one.frames.release_orphans()
    assert one.read(0, 4096) == one.on_disk(0, 4096)
    assert one.frames.orphans == []


def test_a_store_through_a_mapping_is_written_back_and_so_is_the_next_one(world):
    one = world()
    one.run(one.cache.fault(1, 3))
    mm, at = one.mmap(4096, offset=3 * 4096)
    for text in (b"first", b"other"):
        one.store(mm, at + 100, text)
        assert one.cache.needs_writeback(3 * 4096, 1)
        one.sync()
        assert one.on_disk(3 * 4096 + 100, 5) == text
        assert mm.space.vmas[0].table.word(0) & 0x42 == 0  # neither writable nor dirty: a store is noticed again
    one.look()


def test_a_page_that_was_read_first_becomes_dirty_by_its_first_store(world):
    one = world()
    one.read(0, 100)
    mm, at = one.mmap(4096)
    assert one.run(one.cache.fault(1, 0)) is None
    vma = mm.space.vmas[0]
    vma.ops.fault(mm, vma, 0, 1, write=False)
    assert not one.cache.needs_writeback(0, 4096)
    one.store(mm, at, b"x")
    assert one.cache.needs_writeback(0, 4096)
    one.look()


def test_a_folio_that_was_cleaned_under_a_dio_read_is_dirty_again_when_that_ends(world):
    one = world()
    one.run(one.cache.fault(1, 0))
    mm, at = one.mmap(4096)
    pages = pin_user_pages(mm, at, 1, write=True)
    mark_dirty(mm, pages.runs)  # before the IO
    one.sync()
    assert not one.cache.needs_writeback(0, 4096)
    one.ram.scatter(pages.runs, b"dma!" * 1024)
    mark_dirty(mm, pages.runs)  # bio_check_pages_dirty (MM-25)
    unpin_user_pages(mm, pages.runs)
    assert one.cache.needs_writeback(0, 4096)
    one.sync()
    assert one.on_disk(0, 4096) == b"dma!" * 1024
    one.look()


def test_fsync_flushes_the_device_and_so_does_a_write_that_is_to_last(world):
    one = world()
    one.write(0, b"a" * 100)
    one.run(one.cache.fsync(1))
    assert one.device.flushes == 1
    assert one.write(200, b"b" * 100, dsync=True) == 100
    assert one.device.flushes == 2
    assert one.on_disk(200, 100) == b"b" * 100


def test_the_flusher_waits_for_nothing_that_it_has_sent(world):
    one = world()
    one.write(0, b"a" * 4096)
    one.run(one.cache.flusher())
    assert one.cache.needs_writeback(0, 4096)
    one.env.run()
    assert not one.cache.needs_writeback(0, 4096)
    assert one.on_disk(0, 4096) == b"a" * 4096
    one.look()


def test_truncate_waits_for_what_is_on_its_way(world):
    one = world()
    one.write(0, b"a" * 16384)
    one.run(one.cache.flusher())
    one.run(one.cache.truncate(1, 5000))
    assert (one.cache.nrpages, one.mapping.nbytes) == (4, 5000)  # a folio of 16 KiB, which stays for its first page
    assert one.on_disk(8192, 4096) == b"a" * 4096
    one.look()


def test_a_folio_that_is_cut_off_while_a_device_is_at_it_is_free_when_that_ends(world):
    one = world()
    free = one.frames.buddy.nr_free
    one.write(0, b"a" * 4096)
    one.run(one.cache.flusher())
    one.mapping.truncate(0)
    assert len(one.frames.orphans) == 1
    one.look()
    assert one.frames.buddy.nr_free == free


def test_what_is_left_of_a_block_is_zeroed_and_a_hole_stays_one(world):
    one = world(16384)
    one.file.state[1], before = "hole", one.on_disk(0, 4096)
    one.run(one.cache.zero_range(1, 4000, 5000))
    assert one.read(0, 9100) == before[:4000] + bytes(5000) + one.on_disk(9000, 100)
    assert one.file.state[1] == "hole"
    one.look()


def test_a_fault_brings_pages_and_one_beyond_the_end_brings_nothing(world):
    one = world(8192)
    one.run(one.cache.fault(1, 1, 5))
    assert one.folios() == [(1, 0)]
    assert one.mapping.find(1).flags & (PG_uptodate | PG_dirty) == PG_uptodate
    one.look()


def test_the_trace_tells_every_instant_of_it(world):
    one = world()
    one.read(0, 30000)
    one.write(5000, b"a" * 30000)
    job = one.env.job(one.cache.write_and_wait_range(1, 0, 1 << 20))
    while not job.processed:
        now = one.env.now
        while not job.processed and one.env.now == now:
            one.env.step()
        if one.env.peek() > one.env.now:
            told = state_at([typed(raw) for raw in one.raw], one.env.now)
            assert told.folios == tuple(one.frames.folios.states())
    one.look()


def test_nothing_is_read_ahead_by_who_does_not_want_it(world):
    one = world()
    one.cache.ra = one.cache.ra._replace(ra_pages=0)
    one.read(0, 100)
    assert one.folios() == [(0, 0)]
