import pytest

from labkit.errors import BadInput
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.free_area import MOVABLE, UNMOVABLE
from labkit.kernel.mm.page_alloc.memory_hotplug import online_movable

AT = 0x2_0000_0000


def test_what_can_move_goes_to_the_new_memory_and_what_cannot_does_not():
    buddy = Buddy(64 << 20)
    free = buddy.nr_free
    zone = online_movable(buddy, AT, 64 << 20)
    assert (zone.name, zone.managed, buddy.nr_free - free) == ("Movable", 16384, 16384)
    assert buddy.alloc_pages(0, MOVABLE) == AT >> 12
    assert buddy.alloc_pages(0, UNMOVABLE) < 16384
    buddy.free_pages(AT >> 12, 0)
    assert [name for name, *_ in buddy.spans()] == ["DMA", "DMA32", "Movable"]


def test_when_the_new_memory_is_full_the_old_serves():
    buddy = Buddy(64 << 20)
    online_movable(buddy, AT, 4 << 20)
    starts, _ = buddy.alloc_bulk(0, 2048)
    assert starts.min() < 16384 < starts.max()


@pytest.mark.parametrize(("start", "nbytes"), [(AT + 4096, 4 << 20), (AT, 4096), (0, 4 << 20), (AT, 0)])
def test_what_is_no_whole_blocks_above_RAM_is_refused(start, nbytes):
    buddy = Buddy(64 << 20)
    with pytest.raises(BadInput, match=r"is not whole blocks of 4 MiB above all RAM \(-EINVAL\)"):
        online_movable(buddy, start, nbytes)
    assert len(buddy.zones) == 2
