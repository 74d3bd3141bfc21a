import itertools

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.vma import MmStruct

BASE = 0x7F00_0000_0000


def space_of(*sizes, order=0):
    space = MmStruct()
    return space, [space.mmap(nbytes, "rw-", "anon", order) for nbytes in sizes]


def test_a_length_is_rounded_up_to_whole_folios():
    assert [vma.end - vma.start for vma in space_of(1, 4096, 4097)[1]] == [4096, 4096, 8192]
    assert [vma.end - vma.start for vma in space_of(1, 65537, order=4)[1]] == [65536, 131072]


def test_mappings_begin_on_two_mebibytes_and_leave_a_gap():
    _, vmas = space_of(4096, (2 << 20) - 4096, 2 << 20, 4096)
    assert [vma.start - BASE for vma in vmas] == [0, 2 << 20, 4 << 20, 8 << 20]
    assert all(a.end < b.start for a, b in itertools.pairwise(vmas))


def test_an_address_belongs_to_the_mapping_that_holds_it():
    space, (first, second) = space_of(8192, 4096)
    assert space.find_vma(BASE) is first
    assert space.find_vma(BASE + 8191) is first
    assert space.find_vma(BASE + 8192) is None
    assert space.find_vma(second.start) is second
    assert space.find_vma(BASE - 1) is None
    assert space.find_vma(-1) is None
    assert MmStruct().find_vma(BASE) is None


@pytest.mark.parametrize(
    ("prot", "order", "flags"), [("rw-", 0, 0b111), ("r--", 0, 0b101), ("rw-", 4, 0b111), ("rw-", 9, 0b10000111)]
)
def test_entries_carry_the_rights_and_a_leaf_says_so(prot, order, flags):
    assert MmStruct().mmap(4096, prot, "anon", order).pte_flags == flags


@pytest.mark.parametrize("nbytes", [0, -4096])
def test_a_mapping_of_nothing_is_refused(nbytes):
    with pytest.raises(BadInput) as caught:
        MmStruct().mmap(nbytes, "rw-", "anon", 0)
    assert str(caught.value) == f"mmap: length={nbytes} is not a positive number of bytes (-EINVAL)"


def test_the_address_space_ends():
    space = MmStruct()
    with pytest.raises(SyscallError) as caught:
        space.mmap(1 << 41, "rw-", "anon", 0)
    assert str(caught.value) == "mmap: 2048 GiB does not fit into the address space (-ENOMEM)"
    assert space.mmap(4096, "rw-", "anon", 0).start == BASE


def test_each_task_has_a_terabyte_of_its_own():
    assert [MmStruct(task).mmap(4096, "rw-", "anon", 0).start for task in range(3)] == [
        BASE, 0x7D00_0000_0000, 0x7B00_0000_0000,
    ]  # fmt: skip
    with pytest.raises(SyscallError, match="ENOMEM"):
        MmStruct(1).mmap(1 << 40, "rw-", "anon", 0)


def test_a_mapping_is_removed_by_its_start_alone():
    space, (first, second) = space_of(8192, 4096)
    with pytest.raises(SyscallError) as caught:
        space.remove(first.start + 4096)
    assert str(caught.value) == "munmap: addr=0x7f0000001000 is not the start of a mapping (-EINVAL)"
    assert space.remove(first.start) is first
    assert space.vmas == [second]
    with pytest.raises(SyscallError, match="EINVAL"):
        space.remove(first.start)
