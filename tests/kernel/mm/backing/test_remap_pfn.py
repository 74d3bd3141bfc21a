import errno

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.backing.provider import Provider
from labkit.kernel.mm.backing.remap_pfn import PfnMapping
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import MADV_POPULATE_READ, MADV_POPULATE_WRITE, do_madvise, do_munmap
from labkit.kernel.mm.gup.gup import pin_user_pages
from labkit.kernel.mm.gup.phyrs import get_user_phyrs
from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.phyr import Phyr

VA, AT = 0x7F00_0000_0000, 0x2_0000_0000
GPU = MemoryClass("mmio", "gpu0")


def bar_of(space, **knobs):
    return PfnMapping(space.mm.frames, "gpu", ((AT, 16384),), Provider("gpu0", AT, 16384, GPU, **knobs))


def test_all_of_it_is_mapped_at_once_by_special_entries(make_mm, told):
    space = make_mm()
    assert bar_of(space).mmap(space.mm, 8192) == VA
    assert list(space.mm.space.vmas[0].table.ptes) == [AT | 0x227, AT + 4096 | 0x227]  # special, accessed, US, RW, P
    assert space.raw == [
        ("Mmap", 5, 0, VA, 8192, "rw-", "gpu", 0, "gpu"),
        ("SetPtes", 5, 0, VA, 0, ((AT, 8192),), 0),
    ]
    assert list(space.mm.folios.states()) == []
    told(space)
    do_munmap(space.mm, VA, 8192)
    told(space)


def test_pages_are_EFAULT_and_phyrs_are_of_the_provider_s_class(make_mm):
    space = make_mm()
    bar_of(space).mmap(space.mm, 8192)
    with pytest.raises(
        SyscallError, match=r"lies in gpu, memory of a device without struct pages \(MISS-3\) \(-EFAULT\)"
    ):
        pin_user_pages(space.mm, VA, 1, write=True)
    assert get_user_phyrs(space.mm, VA + 512, 4096, write=True).phyrs == (Phyr(AT + 512, 4096, GPU),)


def test_without_a_provider_nobody_answers_for_it(make_mm):
    space = make_mm()
    PfnMapping(space.mm.frames, "pfnmap-ram", ((0x7000, 4096),)).mmap(space.mm, 4096)
    with pytest.raises(SyscallError, match=r"\(-EFAULT\)"):
        get_user_phyrs(space.mm, VA, 4096, write=True)


def test_revoked_it_is_unmapped_and_ENODEV(make_mm, told):
    space = make_mm()
    bar = bar_of(space)
    bar.mmap(space.mm, 8192)
    assert bar.revoke() == ()
    assert space.raw[-1] == ("ZapPtes", 5, 0, VA, 8192, 0)
    with pytest.raises(SyscallError, match=r"lies in gpu, which is revoked \(SIGBUS\) \(-EFAULT\)"):
        handle_mm_fault(space.mm, space.mm.space.vmas[0], 0, 1)
    with pytest.raises(SyscallError, match=r"whose owner has revoked it \(D-13\) \(-ENODEV\)"):
        get_user_phyrs(space.mm, VA, 4096, write=True)
    told(space)


def test_the_owner_is_told_of_the_pins_that_it_must_wait_for(make_mm):
    space = make_mm()
    bar = bar_of(space)
    token = space.mm.ledger.pin(1, 0, "range", ((AT + 4096, 512),))
    assert bar.revoke() == (token,)


def test_who_promised_to_stay_stays(make_mm):
    space = make_mm()
    bar = bar_of(space, revocable=False)
    bar.mmap(space.mm, 8192)
    before = list(space.raw)
    with pytest.raises(SyscallError, match=r"provider: gpu0 promised to stay, and is not revoked") as bad:
        bar.revoke()
    assert bad.value.errno == errno.EOPNOTSUPP
    assert (space.raw, bar.revoked) == (before, False)


def test_a_mapping_longer_than_the_bar_is_refused_and_leaves_nothing(make_mm):
    space = make_mm()
    with pytest.raises(SyscallError, match=r"mmap: length=20480 is more than the 16384 of gpu \(-EINVAL\)"):
        bar_of(space).mmap(space.mm, 20480)
    assert space.raw == []


@pytest.mark.parametrize("runs", [(), ((AT, 100),), ((AT + 1, 4096),), ((AT, 0),)])
def test_half_pages_are_refused(make_mm, runs):
    with pytest.raises(BadInput, match=r"remap_pfn: gpu is not whole pages \(-EINVAL\)"):
        PfnMapping(make_mm().mm.frames, "gpu", runs)


@pytest.mark.parametrize("advice", [MADV_POPULATE_READ, MADV_POPULATE_WRITE])
def test_memory_that_is_mapped_by_frame_number_is_not_populated_and_that_is_EINVAL(make_mm, told, advice):
    space = make_mm()
    addr = bar_of(space).mmap(space.mm, 8192)
    with pytest.raises(SyscallError, match=r"madvise: gpu is not memory that can be made ready .* \(-EINVAL\)"):
        do_madvise(space.mm, addr, 8192, advice)
    told(space)
