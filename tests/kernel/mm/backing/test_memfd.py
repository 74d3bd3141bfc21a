import pytest

from labkit.errors import SyscallError
from labkit.kernel.mm.backing.filemap import mmap_file
from labkit.kernel.mm.backing.memfd import GuestMemfd, memfd_create, memfd_secret
from labkit.kernel.mm.gup.follow import FOLL_LONGTERM
from labkit.kernel.mm.gup.gup import pin_user_pages
from labkit.kernel.mm.gup.phyrs import get_user_phyrs

VA = 0x7F00_0000_0000


def test_a_memfd_may_be_pinned_for_the_long_term(make_mm):
    space = make_mm(7)
    mmap_file(space.mm, memfd_create(space.mm.frames, 4096), 4096)
    assert pin_user_pages(space.mm, VA, 1, write=True, flags=FOLL_LONGTERM).runs == ((0x7000, 4096),)


def test_a_file_on_disk_may_not_be(make_mm):
    space = make_mm(7)
    file = memfd_create(space.mm.frames, 4096)
    file.kind = "file"
    mmap_file(space.mm, file, 4096)
    with pytest.raises(SyscallError, match=r"tracks what is dirty: no pin for the long term \(-EFAULT\)"):
        pin_user_pages(space.mm, VA, 1, write=True, flags=FOLL_LONGTERM)


@pytest.mark.parametrize(
    "take", [lambda mm: pin_user_pages(mm, VA, 1, write=False), lambda mm: get_user_phyrs(mm, VA, 4096, write=False)]
)
def test_secret_memory_is_EFAULT_for_pages_and_for_phyrs(make_mm, take):
    space = make_mm(7)
    mmap_file(space.mm, memfd_secret(space.mm.frames, 4096), 4096)
    with pytest.raises(SyscallError, match=r"lies in secret memory, .* \(-EFAULT\)"):
        take(space.mm)
    assert space.mm.ledger.held == {}


def test_private_guest_memory_is_mapped_by_nobody(make_mm):
    space = make_mm()
    with pytest.raises(SyscallError, match=r"mmap: guest_memfd is private to its guest, .* \(-ENODEV\)"):
        GuestMemfd(space.mm.frames, 4096, private=True).mmap(space.mm, 4096)
    assert space.raw == []
    assert GuestMemfd(space.mm.frames, 4096, private=False).mmap(space.mm, 4096) == VA
