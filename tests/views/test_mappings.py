from labkit.trace.events import DmaMap, DmaUnmap, IoPageFault, IotlbFill, IotlbFlush, SwiotlbBounced
from labkit.trace.trace import Trace
from labkit.views.journey import NEVER
from labkit.views.mappings import MOST_STEPS, Entry, mappings
from labkit.widgets.iova import sample

TOP = 0xFFFF_C000
MAP = DmaMap(100, 1, 1, ((TOP, 8192),), ((0x4000, 4096), (0x9000, 4096)), 2, 0, 0, 16, "iova", 2)


def read(*records):
    return mappings(Trace(records))


def test_a_lazy_mapping_is_live_then_stale_then_dead():
    told = mappings(sample())
    assert [(one.rq, one.map, one.unmap, one.dead) for one in told.maps] == [(1, 0, 6, 12), (2, 2, 10, 12)]
    assert [one.window for one in told.maps] == [10_000_000, 9_996_000]


def test_a_strict_one_is_dead_as_soon_as_it_is_unmapped():
    (one,) = read(MAP, DmaUnmap(900, 1, 1, 1, stale=False)).maps
    assert (one.unmap, one.dead, one.window) == (1, 1, 0)


def test_a_window_without_an_end_has_no_length():
    (one,) = read(MAP, DmaUnmap(900, 1, 1, 0, stale=True)).maps
    assert (one.dead, one.window) == (NEVER, -1)


def test_each_piece_leads_where_neither_side_is_cut():
    (one,) = read(MAP).maps
    assert list(one.leads()) == [(TOP, 0x4000, 4096), (TOP + 4096, 0x9000, 4096)]
    assert (one.leaf, one.identity, one.nbytes) == (4096, False, 8192)


def test_an_entry_of_the_iotlb_goes_by_eviction_invalidation_or_flush():
    one, two, three = ((TOP, 4096),), ((TOP + 4096, 4096),), ((TOP + 8192, 4096),)
    told = read(
        MAP,
        IotlbFill(200, 1, 1, one, (), 0, 1),
        IotlbFill(300, 1, 1, two + three, one, 3, 2),
        DmaUnmap(400, 1, 1, 1, stale=False),
        IotlbFlush(500, 0, 1),
    )
    assert told.entries == (
        Entry(*one[0], 1, 2, "evicted"), Entry(*two[0], 2, 3, "invalidated"), Entry(*three[0], 2, 4, "flushed"),
    )  # fmt: skip


def test_of_an_entry_that_is_evicted_in_part_the_rest_stays():
    told = read(MAP, IotlbFill(200, 1, 1, MAP.dma, (), 0, 2), IotlbFill(300, 1, 1, (), ((TOP, 4096),), 0, 0))
    assert told.entries == (Entry(TOP, 8192, 1, 2, "evicted"), Entry(TOP + 4096, 4096, 2))


def test_a_bounce_slot_is_used_until_its_request_is_unmapped():
    bounced = DmaMap(10, 1, 1, ((0x3000, 4096),), ((0x1_4000_0000, 4096),), 1, 0, 0, 0, "phys", 0, 4096)
    back = DmaUnmap(900, 1, 1, 0, stale=False, bounced=4096)
    told = read(SwiotlbBounced(5, 0, 0x1_4000_0000, 0x3000, 4096), bounced, back)
    assert [(slot.slot, slot.begin, slot.end) for slot in told.slots] == [(0x3000, 0, 2)]
    assert told.meters["bounced"] == [0, 4096, 8192]


def test_meters_stand_for_every_step():
    meters = mappings(sample()).meters
    assert meters["live"] == [16384, 16384, 20480, 20480, 20480, 20480, 4096, 4096, 4096, 4096, 0, 0, 0]
    assert meters["stale"] == [0, 0, 0, 0, 0, 0, 16384, 16384, 16384, 16384, 20480, 20480, 0]
    assert meters["cached"] == [0, 0, 0, 0, *[16384] * 8, 0]
    assert (meters["hits"][-1], meters["misses"][-1]) == (35, 5)


def test_an_access_that_nothing_answers_is_kept():
    assert read(MAP, IoPageFault(900, 1, 1, 0x1000, write=True)).faults == ((1, 0x1000),)


def test_a_long_trace_is_cut_and_says_so():
    told = mappings(Trace((MAP,) * (MOST_STEPS + 5)))
    assert (len(told.told), told.left_out) == (MOST_STEPS, 5)


def test_unmapping_what_was_mapped_before_the_trace_is_no_mapping():
    assert read(DmaUnmap(900, 1, 9, 0, stale=True)).maps == ()
