import errno

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.backing.memremap import MEMORY_DEVICE, DevicePrivate, DevPagemap
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mmap, do_munmap
from labkit.kernel.mm.gup.follow import FOLL_LONGTERM, FOLL_PCI_P2PDMA
from labkit.kernel.mm.gup.gup import pin_user_pages, unpin_user_pages

VA, AT = 0x7F00_0000_0000, 0x2_0000_0000


def device_of(space, kind="devdax", nbytes=16384):
    return DevPagemap(space.mm.frames, kind, AT, nbytes)


def test_the_kinds_have_the_kernel_s_numbers():
    assert MEMORY_DEVICE == {
        "device-private": 1, "device-coherent": 2, "fsdax": 3, "devdax": 4, "foreign": 4, "p2pdma": 5,
    }  # fmt: skip


def test_device_memory_has_a_struct_page_a_frame_from_the_start(make_mm, told):
    space = make_mm()
    device_of(space)
    assert space.raw == [("MemremapPages", 5, 0, "devdax", AT, 16384, 1, 8, 4)]
    assert [(s.pfn, s.refcount) for s in space.mm.folios.states()] == [(AT + i * 4096 >> 12, 1) for i in range(4)]
    told(space)


def test_a_fault_maps_it_page_by_page_and_allocates_nothing(make_mm, told):
    space = make_mm()
    device, free = device_of(space), space.mm.frames.buddy.nr_free
    device.mmap(space.mm, 8192)
    assert handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 2) == 0
    assert space.raw[-1] == ("SetPtes", 5, 0, VA, 0, ((AT, 8192),), 0)
    assert [(s.refcount, s.mapcount) for s in space.mm.folios.states()] == [(2, 1), (2, 1), (1, 0), (1, 0)]
    do_munmap(space.mm, VA, 8192)
    assert space.mm.frames.buddy.nr_free == free
    told(space)


@pytest.mark.parametrize(
    ("kind", "flags", "why", "code"),
    [
        ("fsdax", FOLL_LONGTERM, r"is storage: no pin for the long term \(MM-27\)", errno.EOPNOTSUPP),
        ("p2pdma", 0, r"is memory of a PCI device, .* \(MM-12\)", errno.EREMOTEIO),
    ],
)
def test_some_kinds_are_not_pinned_by_everybody(make_mm, kind, flags, why, code):
    space = make_mm()
    device_of(space, kind).mmap(space.mm, 4096)
    with pytest.raises(SyscallError, match=why) as bad:
        pin_user_pages(space.mm, VA, 1, write=True, flags=flags)
    assert bad.value.errno == code


@pytest.mark.parametrize(
    ("kind", "flags"),
    [("fsdax", 0), ("devdax", FOLL_LONGTERM), ("device-coherent", 0), ("p2pdma", FOLL_PCI_P2PDMA), ("foreign", 0)],
)
def test_others_are_where_they_lie(make_mm, kind, flags):
    space = make_mm()
    device_of(space, kind).mmap(space.mm, 4096)
    pages = pin_user_pages(space.mm, VA, 1, write=True, flags=flags)
    assert pages.runs == ((AT, 4096),)
    unpin_user_pages(space.mm, pages.runs)


def test_coherent_memory_leaves_the_device_for_a_pin_for_the_long_term(make_mm):
    space = make_mm(7)
    device_of(space, "device-coherent").mmap(space.mm, 4096)
    assert pin_user_pages(space.mm, VA, 1, write=True, flags=FOLL_LONGTERM).runs == ((0x7000, 4096),)


def test_private_memory_comes_to_RAM_when_it_is_touched(make_mm, told):
    space = make_mm(4103)
    moves = []
    space.mm.frames.copy = lambda to, source, nbytes: moves.append((to, source, nbytes))
    device = DevicePrivate(space.mm.frames, AT, 8192)
    device.mmap(space.mm, 8192)
    assert handle_mm_fault(space.mm, space.mm.space.vmas[0], 1, 2, write=False) == 1
    assert moves == [(0x1007000, AT + 4096, 4096)]
    assert space.mm.space.vmas[0].table.word(1) == 0x1007067
    device.migrate_to_device(space.mm, space.mm.space.vmas[0])
    assert moves[1:] == [(AT + 4096, 0x1007000, 4096)]
    assert space.mm.space.vmas[0].table.gaps(0, 2) == [(0, 2)]
    told(space)


def test_a_device_that_goes_is_unmapped_everywhere(make_mm, told):
    space = make_mm()
    device = device_of(space)
    device.mmap(space.mm, 8192)
    handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 2)
    device.memunmap()
    assert list(space.mm.folios.states()) == []
    assert space.raw[-1] == ("MemunmapPages", 5, 0, "devdax", AT, 16384)
    with pytest.raises(SyscallError, match=r"mm: addr=0x7f0000000000 was memory of devdax, which is gone \(SIGBUS\)"):
        handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)
    told(space)


def test_a_device_whose_pages_are_pinned_stays(make_mm):
    space = make_mm()
    device = device_of(space)
    device.mmap(space.mm, 8192)
    pages = pin_user_pages(space.mm, VA, 1, write=True)
    before = list(space.raw)
    with pytest.raises(SyscallError, match=r"memremap: devdax is pinned: it goes when that ends \(-EBUSY\)"):
        device.memunmap()
    assert space.raw == before
    unpin_user_pages(space.mm, pages.runs)
    device.memunmap()


def test_memory_that_has_struct_pages_gets_no_others(make_mm):
    space = make_mm()
    device_of(space)
    for start in (AT + 12288, 0x1000):
        with pytest.raises(BadInput, match=rf"memremap: fsdax at {start:#x}\+8192 overlaps memory .* \(-EBUSY\)"):
            DevPagemap(space.mm.frames, "fsdax", start, 8192)
    assert len(space.raw) == 1


def test_nonsense_is_refused_in_a_sentence(make_mm):
    space = make_mm()
    with pytest.raises(
        BadInput, match=r"memremap: 4096 bytes of core is not whole pages of device-private, .* \(-EINVAL\)"
    ):
        device_of(space, "core", 4096)
    with pytest.raises(BadInput, match=r"memremap: 100 bytes of devdax"):
        device_of(space, nbytes=100)
    with pytest.raises(SyscallError, match=r"mmap: length=20480 is more than the 16384 of devdax \(-EINVAL\)"):
        device_of(space).mmap(space.mm, 20480)
    assert do_mmap(space.mm, 4096) == VA
