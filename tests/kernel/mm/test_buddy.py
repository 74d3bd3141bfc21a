import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.buddy import Buddy, Zone

MIB = 1 << 20


def lists(zone):
    return {order: sorted(blocks) for order, blocks in enumerate(zone.free_area) if blocks}


def test_worked_vector_v4():
    zone = Zone("Normal", 0, 1024)
    zone.virgin = 1024
    zone.free_one_page(0, 2)
    zone.free_one_page(4, 1)
    assert lists(zone) == {1: [4], 2: [0]}
    zone.free_one_page(6, 1)
    assert lists(zone) == {3: [0]}


def test_a_buddy_is_one_bit_away_so_neighbours_may_stay_apart():
    zone = Zone("Normal", 0, 1024)
    zone.virgin = 1024
    zone.free_one_page(1, 0)
    zone.free_one_page(2, 0)
    assert lists(zone) == {0: [1, 2]}


def test_a_split_keeps_the_lower_half():
    zone = Zone("Normal", 1024, 2048)
    assert zone.rmqueue(0) == 1024
    assert lists(zone) == {0: [1025], 1: [1026], 2: [1028], 3: [1032], 4: [1040], 5: [1056], 6: [1088], 7: [1152],
                           8: [1280], 9: [1536]}  # fmt: skip


def test_everything_given_back_is_one_block_again():
    zone = Zone("Normal", 1024, 2048)
    frames = [zone.rmqueue(0) for _ in range(1024)]
    assert frames == list(range(1024, 2048))
    assert zone.rmqueue(0) is None
    for pfn in frames[::2] + frames[1::2]:
        zone.free_one_page(pfn, 0)
    assert lists(zone) == {10: [1024]}


def test_blocks_do_not_join_beyond_the_greatest_order():
    zone = Zone("Normal", 0, 2048)
    zone.virgin = 2048
    zone.free_one_page(0, 10)
    zone.free_one_page(1024, 10)
    assert lists(zone) == {10: [0, 1024]}


def test_the_block_freed_last_is_taken_first():
    zone = Zone("Normal", 0, 1024)
    zone.virgin = 1024
    for pfn in (8, 4, 16):
        zone.free_one_page(pfn, 1)
    assert [zone.rmqueue(1) for _ in range(3)] == [16, 4, 8]


def test_the_smallest_block_that_suffices_is_split():
    zone = Zone("Normal", 0, 4096)
    zone.virgin = 4096
    zone.free_one_page(1024, 10)
    zone.free_one_page(512, 3)
    assert zone.rmqueue(1) == 512
    assert lists(zone) == {1: [514], 2: [516], 10: [1024]}


def test_the_hot_list_comes_before_any_other():
    zone = Zone("Normal", 0, 1024)
    zone.pcp[0] = [9, 7]
    assert [zone.rmqueue(0) for _ in range(3)] == [7, 9, 0]


@pytest.mark.parametrize(
    ("nbytes", "spans"),
    [
        (64 * MIB, [("DMA32", 4096, 16384)]),
        (1 << 30, [("DMA32", 4096, 262144)]),
        (3 << 30, [("DMA32", 4096, 786432)]),
        (4 << 30, [("DMA32", 4096, 786432), ("Normal", 1048576, 1310720)]),
        ((3 << 30) + MIB, [("DMA32", 4096, 786432)]),
        (1 << 40, [("DMA32", 4096, 786432), ("Normal", 1048576, 268697600)]),
    ],
)
def test_zones_lie_around_the_pci_hole(nbytes, spans):
    assert list(Buddy(nbytes).spans()) == spans


def test_physical_memory_ends_above_what_there_is_of_it_by_the_hole():
    assert Buddy(1 << 30).phys_end == 1 << 30
    assert Buddy(4 << 30).phys_end == 5 << 30


def test_normal_memory_is_used_before_dma32():
    assert Buddy(4 << 30).alloc_pages(0) == 1048576
    small = Buddy((3 << 30) + 4 * MIB)
    assert [small.alloc_pages(10), small.alloc_pages(10)] == [1048576, 4096]


def test_a_machine_without_room_for_a_kernel_does_not_boot():
    with pytest.raises(BadInput, match=r"^memory: ram=63 MiB is less than the 64 MiB that boot \(-EINVAL\)$"):
        Buddy(63 * MIB)


def test_a_terabyte_boots_at_once():
    begin = time.process_time()
    buddy = Buddy(1 << 40)
    assert buddy.nr_free == ((1 << 40) >> 12) - 4096
    assert time.process_time() - begin < 0.05


def test_memory_that_is_gone_is_enomem_in_one_sentence():
    buddy = Buddy(64 * MIB)
    for _ in range(12):
        buddy.alloc_pages(10)
    with pytest.raises(SyscallError) as caught:
        buddy.alloc_pages(9)
    assert str(caught.value) == "mm: a block of 2 MiB is not to be had in any zone (-ENOMEM)"
    buddy.free_pages(4096, 10)
    assert buddy.alloc_pages(9) == 4096


def test_a_block_goes_back_to_its_own_zone():
    buddy = Buddy(4 << 30)
    buddy.zones[0].virgin = buddy.zones[0].end
    low = buddy.alloc_pages(0)
    assert low == 4096
    before = buddy.zones[1].nr_free
    buddy.free_pages(low, 0)
    assert buddy.zones[1].nr_free == before + 1


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 99)), max_size=80))
def test_frames_are_neither_lost_nor_handed_out_twice(steps):
    buddy, held = Buddy(64 * MIB), []
    total = buddy.nr_free
    assert total == 12288
    for order, which in steps:
        if which % 3 and held:
            buddy.free_pages(*held.pop(which % len(held)))
            continue
        try:
            held.append((buddy.alloc_pages(order), order))
        except SyscallError:
            assert not any(buddy.zones[0].free_area[order:])
    frames = [pfn + i for pfn, order in held for i in range(1 << order)]
    assert len(set(frames)) == len(frames)
    assert all(pfn % (1 << order) == 0 for pfn, order in held)
    assert all(4096 <= pfn < 16384 for pfn in frames)
    assert buddy.nr_free == total - len(frames)
    for pfn, order in held:
        buddy.free_pages(pfn, order)
    zone = buddy.zones[0]
    assert lists(zone) == ({10: list(range(4096, zone.virgin, 1024))} if zone.virgin > 4096 else {})


def test_before_it_gives_up_the_hot_lists_are_drained_and_merge():
    buddy = Buddy(64 << 20)
    zone = buddy.zones[0]
    blocks = [buddy.alloc_pages(10) for _ in range((zone.end - zone.start) >> 10)]
    zone.pcp[0] = list(range(blocks[0], blocks[0] + 1024))
    assert buddy.nr_free == 1024
    assert buddy.alloc_pages(10) == blocks[0]
    assert buddy.nr_free == 0
    with pytest.raises(SyscallError, match="ENOMEM"):
        buddy.alloc_pages(0)
