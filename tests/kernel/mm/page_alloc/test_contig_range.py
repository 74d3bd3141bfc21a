"""Frames that are asked for by number: taken out of the lists, nothing lost, nothing given twice."""

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.contig_range import alloc_contig_range
from labkit.machine.invariants.free_frames import check_zone


@pytest.fixture
def buddy():
    return Buddy(64 << 20)


@pytest.mark.parametrize(("start", "frames"), [(0x1000, 1), (0x1234, 777), (0x1400, 1024), (0x13FF, 1026), (0x3FFF, 1)])
def test_just_these_frames_are_taken_and_come_back(buddy, start, frames):
    before = buddy.nr_free
    alloc_contig_range(buddy, start, frames)
    zone = next(zone for zone in buddy.zones if zone.start <= start < zone.end)
    assert before - buddy.nr_free == frames
    assert not list(check_zone(zone))
    assert not any(not zone.is_free(pfn, 1) for pfn in (start - 1, start + frames) if zone.start <= pfn < zone.end)
    assert not any(zone.is_free(pfn, 1) for pfn in range(start, start + frames))
    for pfn in range(start, start + frames):
        buddy.free_pages(pfn, 0)
    buddy.drain_all_pages()
    assert buddy.nr_free == before
    assert not list(check_zone(zone))


def test_nobody_else_gets_them(buddy):
    alloc_contig_range(buddy, 0x1234, 3)
    taken = set()
    while buddy.nr_free > 4096:
        starts, frames = buddy.alloc_bulk(0, 1024)
        if not len(starts):
            break
        taken |= {pfn for first, n in zip(starts, frames, strict=True) for pfn in range(first, first + n)}
    assert len(taken) > 8192
    assert not taken & {0x1234, 0x1235, 0x1236}


def test_a_frame_in_use_is_refused_and_nothing_changes(buddy):
    pfn = buddy.alloc_pages(0)
    free = buddy.nr_free
    with pytest.raises(SyscallError, match=r"are not all free \(-EBUSY\)"):
        alloc_contig_range(buddy, pfn, 4)
    assert buddy.nr_free == free
    assert not any(list(check_zone(zone)) for zone in buddy.zones)


def test_what_lies_on_the_lists_of_a_CPU_is_free(buddy):
    pfn = buddy.alloc_pages(0)
    buddy.free_pages(pfn, 0)
    alloc_contig_range(buddy, pfn, 1)
    assert buddy.alloc_pages(0) != pfn


@pytest.mark.parametrize(("start", "frames"), [(0, 1), (0xA0, 1), (0xFF, 2), (0xFFF, 2), (0x4000, 1), (0x1000, 0)])
def test_what_is_no_RAM_of_one_zone_is_refused(buddy, start, frames):
    with pytest.raises(BadInput, match=r"are no RAM of one zone of this machine \(-EINVAL\)"):
        alloc_contig_range(buddy, start, frames)


def test_the_hole_of_the_BARs_may_begin_elsewhere():
    usual, other = Buddy(8 << 30), Buddy(8 << 30, pci_hole=0xF000_0000)
    with pytest.raises(BadInput, match="are no RAM"):
        alloc_contig_range(usual, 0xE0000, 1)
    alloc_contig_range(other, 0xE0000, 1)
    assert (usual.managed, other.managed) == (2097152 - 97, 2097152 - 97)
    with pytest.raises(BadInput, match=r"pci_hole=0x1000 is not a multiple of 4 MiB from 64 MiB to 4 GiB"):
        Buddy(8 << 30, pci_hole=0x1000)
