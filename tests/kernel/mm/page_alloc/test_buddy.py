import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from labkit.errors import BadInput, InvariantError, SyscallError
from labkit.kernel.mm.page_alloc.ageing import age
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.free_area import MOVABLE, RECLAIMABLE, UNMOVABLE
from labkit.kernel.mm.page_alloc.watermark import ALLOC_NO_WATERMARKS, ALLOC_WMARK_MIN
from labkit.kernel.mm.page_alloc.zone import Zone

MIB, GIB = 1 << 20, 1 << 30


def lists(zone):
    return {o: sorted(row[MOVABLE]) for o, row in enumerate(zone.free_area) if row[MOVABLE]}


def free_frames(buddy):
    """Return every frame that is free, each place where one can be told apart; twice what is there twice."""
    found = []
    for zone in buddy.zones:
        blocks = [(pfn, n % 16) for hot in (zone.pcp, zone.aged) for n, pfns in hot.items() for pfn in pfns]
        blocks += [(pfn, order) for order, row in enumerate(zone.free_area) for pfns in row for pfn in pfns]
        found += [pfn + i for pfn, order in blocks for i in range(1 << order)]
        found += range(zone.virgin, zone.end)
    return found


def exhaust(buddy, order):
    """Take blocks one by one until there are none; return how many, and what the allocator said."""
    for count in range(1 << 20):
        try:
            buddy.alloc_pages(order)
        except SyscallError as bad:
            return count, bad
    return None


def spread(runs):
    return [pfn + i for pfn, n in zip(*(column.tolist() for column in runs), strict=True) for i in range(n)]


@pytest.mark.parametrize(
    ("nbytes", "spans"),
    [
        (64 * MIB, [("DMA", 0, 4096), ("DMA32", 4096, 16384)]),
        (3 << 30, [("DMA", 0, 4096), ("DMA32", 4096, 786432)]),
        (4 << 30, [("DMA", 0, 4096), ("DMA32", 4096, 786432), ("Normal", 1048576, 1310720)]),
        ((3 << 30) + MIB, [("DMA", 0, 4096), ("DMA32", 4096, 786432)]),
        (1 << 40, [("DMA", 0, 4096), ("DMA32", 4096, 786432), ("Normal", 1048576, 268697600)]),
    ],
)
def test_zones_lie_around_the_pci_hole(nbytes, spans):
    assert list(Buddy(nbytes).spans()) == spans


def test_physical_memory_ends_above_what_there_is_of_it_by_the_hole():
    assert Buddy(1 << 30).phys_end == 1 << 30
    assert Buddy(4 << 30).phys_end == 5 << 30


def test_zone_dma_lacks_frame_0_and_the_legacy_hole():
    dma = Buddy(64 * MIB).zones[-1]
    assert dma.managed == 3999
    assert lists(dma) == {0: [1], 1: [2], 2: [4], 3: [8], 4: [16], 5: [32, 128], 6: [64], 8: [256], 9: [512]}
    assert dma.virgin == 1024


def test_a_machine_without_room_for_a_kernel_does_not_boot():
    with pytest.raises(BadInput, match=r"^memory: ram=63 MiB is less than the 64 MiB that boot \(-EINVAL\)$"):
        Buddy(63 * MIB)


def test_a_terabyte_boots_with_as_many_objects_as_a_gibibyte():
    def objects(nbytes):
        gc.collect()
        before = len(gc.get_objects())
        made = Buddy(nbytes)
        return len(gc.get_objects()) - before, made

    one, small = objects(4 << 30)
    many, large = objects(1 << 40)
    assert many <= one + 10
    assert small.nr_free == (4 << 18) - 97
    assert large.nr_free == (1 << 28) - 97
    assert sum(len(blocks) for zone in large.zones for row in zone.free_area for blocks in row) == 10


def test_normal_memory_is_used_before_dma32_and_movable_memory_before_both():
    buddy = Buddy(4 << 30, movablecore=512 * MIB)
    assert [zone.name for zone in buddy.zones] == ["Movable", "Normal", "DMA32", "DMA"]
    assert buddy.alloc_pages(0) == 1048576 + 131072
    assert buddy.alloc_pages(0, UNMOVABLE) == 1048576
    assert buddy.alloc_pages(0, RECLAIMABLE) == 1048576 + 1024


def test_fresh_pages_ascend_though_a_cpu_takes_them_a_batch_at_a_time():
    buddy = Buddy(4 << 30)
    assert [buddy.alloc_pages(0) for _ in range(1500)] == list(range(1048576, 1048576 + 1500))
    assert buddy.zones[0].nr_pcp == 12  # 24 batches of 63


def test_the_page_freed_last_is_hot_and_taken_first():
    buddy = Buddy(4 << 30)
    pages = [buddy.alloc_pages(0) for _ in range(4)]
    for pfn in pages:
        buddy.free_pages(pfn, 0)
    assert [buddy.alloc_pages(0) for _ in range(4)] == pages[::-1]


def test_a_cpu_gives_back_a_batch_of_the_coldest_when_it_keeps_too_much():
    buddy = Buddy(64 * MIB)
    zone = buddy.zones[0]
    assert (zone.batch, zone.high) == (3, 120)
    pages = [buddy.alloc_pages(0) for _ in range(120)]
    for pfn in pages[:119]:
        buddy.free_pages(pfn, 0)
    assert len(zone.pcp[0]) == 119
    buddy.free_pages(pages[119], 0)
    assert len(zone.pcp[0]) == 117
    assert zone.pcp[0][0] == pages[3]


def test_orders_that_no_cpu_keeps_join_at_once():
    buddy = Buddy(64 * MIB)
    pair = [buddy.alloc_pages(4), buddy.alloc_pages(4)]
    assert pair == [4096, 4112]
    for pfn in pair:
        buddy.free_pages(pfn, 4)
    assert lists(buddy.zones[0]) == {10: [4096]}


def test_memory_that_is_gone_is_enomem_in_one_sentence():
    buddy = Buddy(64 * MIB)
    count, said = exhaust(buddy, 10)
    assert count == 14
    assert str(said) == "mm: a block of 4 MiB is not to be had in any zone (-ENOMEM)"
    buddy.free_pages(4096, 10)
    assert buddy.alloc_pages(10) == 4096


def test_an_allocation_leaves_the_minimum_unless_it_may_not():
    buddy = Buddy(64 * MIB)
    runs = buddy.alloc_bulk(0, 1 << 20)
    assert [zone.nr_free for zone in buddy.zones] == [192, 110]
    assert int(runs[1].sum()) == buddy.managed - 302
    with pytest.raises(SyscallError, match="ENOMEM"):
        buddy.alloc_pages(0)
    assert buddy.alloc_pages(0, flags=ALLOC_NO_WATERMARKS) in range(4096, 16384)


def test_before_it_gives_up_every_cpu_gives_back_what_it_keeps():
    buddy = Buddy(64 * MIB)
    buddy.zones[1].offline_pages()
    buddy.alloc_bulk(0, 1 << 20)
    zone = buddy.zones[0]
    assert zone.nr_free == 192
    for pfn in range(4096, 4160):
        buddy.free_pages(pfn, 0)
    assert (zone.nr_pcp, zone.nr_free_pages) == (64, 192)
    assert buddy.alloc_pages(6) == 4096


def test_bulk_gives_what_page_by_page_gives():
    for order, count in ((0, 5000), (3, 700), (4, 300), (9, 20), (10, 9)):
        one, many = Buddy(4 << 30), Buddy(4 << 30)
        singles = [one.alloc_pages(order) for _ in range(count)]
        assert spread(many.alloc_bulk(order, count)) == [pfn + i for pfn in singles for i in range(1 << order)]


def test_bulk_gives_what_page_by_page_gives_of_old_memory_too():
    one, many = Buddy(256 * MIB), Buddy(256 * MIB)
    for buddy in (one, many):
        age(buddy, 0.6, 0, 3000, 1)
    assert spread(many.alloc_bulk(0, 4000)) == [one.alloc_pages(0) for _ in range(4000)]
    assert many.nr_free == one.nr_free


def test_a_gibibyte_of_fresh_pages_is_one_run():
    starts, frames = Buddy(4 << 30).alloc_bulk(0, 131072)
    assert (starts.tolist(), frames.tolist()) == ([1048576], [131072])
    assert starts.dtype == frames.dtype == np.int64


def test_nothing_in_bulk_is_no_run():
    buddy = Buddy(64 * MIB)
    assert [len(column) for column in buddy.alloc_bulk(0, 0)] == [0, 0]
    for zone in buddy.zones:
        zone.offline_pages()
    assert [len(column) for column in buddy.alloc_bulk(0, 10)] == [0, 0]
    assert buddy.managed == 0


def test_bulk_ends_where_page_by_page_ends():
    for order in (0, 2, 4, 9):
        one, many = Buddy(64 * MIB), Buddy(64 * MIB)
        assert int(many.alloc_bulk(order, 1 << 20)[1].sum()) == exhaust(one, order)[0] << order


def test_runs_given_back_are_the_blocks_that_boot_made():
    buddy = Buddy(256 * MIB)
    before = sorted(free_frames(buddy))
    starts, frames = buddy.alloc_bulk(0, 10000)
    buddy.free_bulk(starts, frames, 0)
    assert sorted(free_frames(buddy)) == before
    assert lists(buddy.zones[0]) == {10: list(range(4096, 4096 + 10240, 1024))}


def test_a_gigantic_folio_is_aligned_and_comes_from_the_tail():
    buddy = Buddy(8 << 30)
    buddy.alloc_pages(0)
    assert buddy.alloc_contig(262144) == 1048576 + 262144
    assert buddy.zones[0].nr_free == (5 << 18) - 1 - 262144
    assert buddy.alloc_pages(10) == 1048576 + 261120  # of what was passed over, the last
    assert sorted(set(free_frames(buddy))) == sorted(free_frames(buddy))


def test_a_gigantic_folio_is_made_of_neighbours_that_were_given_back():
    buddy = Buddy(4 << 30)
    starts, frames = buddy.alloc_bulk(0, 250_000)
    with pytest.raises(SyscallError, match=r"^mm: a block of 2 GiB is not to be had in any zone \(-ENOMEM\)$"):
        buddy.alloc_contig(524288)
    buddy.free_bulk(starts, frames, 0)
    assert buddy.alloc_contig(131072) == 1048576
    assert buddy.alloc_contig(65536) == 1048576 + 131072
    buddy.free_bulk(np.array([1048576]), np.array([131072]), 10)
    assert buddy.nr_free == buddy.managed - 65536


def test_beyond_the_greatest_order_there_is_no_block_but_a_gigantic_folio_goes_back_whole():
    buddy = Buddy(4 << 30)
    with pytest.raises(SyscallError, match=r"^mm: a block of 8 MiB is not to be had in any zone \(-ENOMEM\)$"):
        buddy.alloc_pages(11)
    assert [len(column) for column in buddy.alloc_bulk(18, 1)] == [0, 0]
    pfn = buddy.alloc_contig(131072)
    buddy.free_pages(pfn, 17)
    assert buddy.nr_free == buddy.managed
    with pytest.raises(InvariantError):
        buddy.free_pages(pfn, 17)


@pytest.mark.parametrize("frames", [0, 1024, 3000, 262145])
def test_a_gigantic_folio_is_a_power_of_two_above_the_greatest_order(frames):
    with pytest.raises(BadInput, match=rf"^mm: {frames} frames is not a power of two above 1024 \(-EINVAL\)$"):
        Buddy(64 * MIB).alloc_contig(frames)


@pytest.mark.parametrize(
    ("pfn", "order", "error", "sentence"),
    [
        (4097, 1, BadInput, "mm: pfn=0x1001 begins no block of 2 frames (-EINVAL)"),
        (16384, 0, BadInput, "mm: pfn=0x4000 is a frame of no zone (-EINVAL)"),
        (-1024, 10, BadInput, "mm: pfn=-0x400 is a frame of no zone (-EINVAL)"),
        (4096, 0, InvariantError, "mm: pfn=0x1000 is given back, and was free already (-EFAULT)"),
        (4096, 4, InvariantError, "mm: pfn=0x1000 is given back, and was free already (-EFAULT)"),
        (4104, 3, InvariantError, "mm: pfn=0x1008 is given back, and was free already (-EFAULT)"),
        (4120, 0, InvariantError, "mm: pfn=0x1018 is given back, and was free already (-EFAULT)"),
        (15000, 0, InvariantError, "mm: pfn=0x3a98 is given back, and was free already (-EFAULT)"),
        (256, 0, InvariantError, "mm: pfn=0x100 is given back, and was free already (-EFAULT)"),
    ],
)
def test_what_cannot_be_given_back_is_refused_and_changes_nothing(pfn, order, error, sentence):
    buddy = Buddy(64 * MIB)
    for _ in range(9):
        buddy.alloc_pages(0)
    buddy.free_pages(4096, 0)
    buddy.alloc_pages(3)
    before = sorted(free_frames(buddy))
    with pytest.raises(error) as caught:
        buddy.free_pages(pfn, order)
    assert str(caught.value) == sentence
    with pytest.raises(error):
        buddy.free_bulk(np.array([pfn]), np.array([1 << order]), order)
    assert sorted(free_frames(buddy)) == before


def test_a_page_twice_in_one_bulk_is_refused_before_any_goes():
    buddy = Buddy(64 * MIB)
    starts, frames = buddy.alloc_bulk(0, 64)
    with pytest.raises(InvariantError, match=r"^mm: pfn=0x1008 is given back, and was free already"):
        buddy.free_bulk(np.array([4096 + 8, 4096]), np.array([8, 16]), 0)
    buddy.free_bulk(starts, frames, 0)
    assert buddy.nr_free == buddy.managed


def test_memory_that_is_unplugged_is_not_managed_any_more():
    zone = Zone("Normal", 0, 4096)
    assert zone.rmqueue(0) == 0
    assert zone.offline_pages() == 4095
    assert (zone.managed, zone.nr_free, zone.rmqueue(0)) == (1, 0, None)


class Life(RuleBasedStateMachine):
    """Whatever is asked for and given back, no frame is lost, held twice, or taken below the marks."""

    def __init__(self):
        super().__init__()
        self.buddy, self.held = Buddy(64 * MIB, movablecore=0), []
        self.boot = sorted(free_frames(self.buddy))

    @rule(order=st.integers(0, 10), migratetype=st.sampled_from([UNMOVABLE, MOVABLE, RECLAIMABLE]))
    def alloc(self, order, migratetype):
        try:
            self.held.append((self.buddy.alloc_pages(order, migratetype), order))
        except SyscallError:
            zone = self.buddy.zones[0]
            room = zone.nr_free_pages - zone.mark(ALLOC_WMARK_MIN, "DMA32")
            assert room < 1 << order or not any(blocks for row in zone.free_area[order:] for blocks in row)

    @rule(order=st.integers(0, 10), count=st.integers(0, 900), migratetype=st.sampled_from([UNMOVABLE, MOVABLE]))
    def bulk(self, order, count, migratetype):
        starts, frames = self.buddy.alloc_bulk(order, count, migratetype)
        assert int(frames.sum()) <= count << order
        runs = zip(starts.tolist(), frames.tolist(), strict=True)
        self.held += [(pfn, order) for first, n in runs for pfn in range(first, first + n, 1 << order)]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def free(self, data):
        self.buddy.free_pages(*self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def free_many(self, data):
        n = data.draw(st.integers(1, len(self.held)))
        order = self.held[-1][1]
        some = [one for one in self.held[-n:] if one[1] == order]
        self.held = [one for one in self.held if one not in set(some)]
        self.buddy.free_bulk(np.array([pfn for pfn, _ in some]), np.full(len(some), 1 << order), order)

    @rule(fraction=st.floats(0.1, 1), order=st.integers(0, 10), blocks=st.integers(1, 300), seed=st.integers(0, 9))
    def grow_old(self, fraction, order, blocks, seed):
        kept = age(self.buddy, fraction, order, blocks, seed)
        self.held += [(pfn, 0) for first, frames, _ in kept for pfn in range(first, first + frames)]

    @rule()
    def drain(self):
        self.buddy.drain_all_pages()

    @invariant()
    def every_frame_is_in_one_place(self):
        mine = [pfn + i for pfn, order in self.held for i in range(1 << order)]
        assert sorted(mine + free_frames(self.buddy)) == self.boot
        assert self.buddy.nr_free + len(mine) == self.buddy.managed
        assert all(pfn % (1 << order) == 0 for pfn, order in self.held)

    @invariant()
    def the_map_tells_what_is_free(self):
        for pfn, order in self.held[:20]:
            zone = next(zone for zone in self.buddy.zones if zone.start <= pfn < zone.end)
            assert not zone.is_free(pfn, 1 << order)
        for zone in self.buddy.zones:
            told = sum(sum(row) for row in zone.map.blocks.values())
            assert told + zone.end - zone.virgin == zone.nr_free

    @invariant()
    def the_marks_hold(self):
        for zone in self.buddy.zones:
            assert zone.nr_free >= zone.watermarks.min

    def teardown(self):
        for pfn, order in self.held:
            self.buddy.free_pages(pfn, order)
        self.buddy.drain_all_pages()
        for zone in self.buddy.zones:
            zone.drain_pages()
            whole = {pfn for blocks in zone.free_area[10] for pfn in blocks}
            tail = range(zone.virgin, zone.end, 1024)
            assert sorted(whole | set(tail)) == list(range(max(zone.start, 1024), zone.end, 1024))


Life.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
test_life = Life.TestCase


@given(st.integers(0, 10), st.lists(st.integers(0, 400), max_size=6))
@settings(deadline=None)
def test_bulk_in_steps_counts_the_frames_of_page_by_page(order, counts):
    one, many = Buddy(64 * MIB), Buddy(64 * MIB)
    for count in counts:
        got = 0
        try:
            for _ in range(count):
                one.alloc_pages(order)
                got += 1
        except SyscallError:
            pass
        assert int(many.alloc_bulk(order, count)[1].sum()) == got << order


@pytest.mark.parametrize(
    "ask",
    [
        lambda buddy: buddy.alloc_pages(-1),
        lambda buddy: buddy.alloc_pages(0, 9),
        lambda buddy: buddy.alloc_pages(0, -1),
        lambda buddy: buddy.alloc_bulk(-1, 1),
        lambda buddy: buddy.alloc_bulk(0, -1),
        lambda buddy: buddy.alloc_bulk(0, 1, 9),
        lambda buddy: buddy.free_pages(8192, -1),
        lambda buddy: buddy.free_pages(-1, 0),
        lambda _: Buddy(64 * MIB, cpus=0),
    ],
)
def test_numbers_that_make_no_sense_are_refused_in_one_sentence_and_change_nothing(ask):
    buddy = Buddy(64 * MIB)
    before = buddy.info()
    with pytest.raises(BadInput, match=r"^mm: .* \(-EINVAL\)$"):
        ask(buddy)
    assert buddy.info() == before


def test_memory_below_an_address_comes_from_zones_that_end_there_or_from_the_lowest():
    buddy = Buddy(4 << 30)
    assert buddy.alloc_pages(0, UNMOVABLE) >= 1 << 20
    assert 1 << 12 <= buddy.alloc_pages(0, UNMOVABLE, below=1 << 32) < 1 << 20
    assert buddy.alloc_pages(0, UNMOVABLE, below=1 << 24) < 1 << 12
    assert buddy.alloc_pages(0, UNMOVABLE, below=1 << 16) < 1 << 12
