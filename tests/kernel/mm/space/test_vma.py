import itertools

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.mm.fault.anon import ANON_OPS
from labkit.kernel.mm.space.page_table import PageTable
from labkit.kernel.mm.space.vma import VM_SHARED, VMA, VmaTree, page_range

BASE = 0x7F00_0000_0000


def vma_of(start, end, prot="rw-", flags=0):
    return VMA(start, end, prot, "anon", 0, PageTable((end - start) >> 12), ANON_OPS, flags)


def space_of(*sizes, unit=4096, task=0):
    space = VmaTree(task)
    return space, [space.insert(vma_of(*space.place(nbytes, unit))) for nbytes in sizes]


def test_a_length_is_rounded_up_to_whole_folios():
    assert [vma.end - vma.start for vma in space_of(1, 4096, 4097)[1]] == [4096, 4096, 8192]
    assert [vma.end - vma.start for vma in space_of(1, 65537, unit=65536)[1]] == [65536, 131072]


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
    assert VmaTree().find_vma(BASE) is None


@pytest.mark.parametrize(("prot", "bits"), [("rw-", 0b111), ("r--", 0b101)])
def test_entries_carry_the_rights(prot, bits):
    assert vma_of(BASE, BASE + 4096, prot).pte_flags == bits


def test_a_private_mapping_copies_on_write_and_a_shared_one_does_not():
    assert vma_of(BASE, BASE + 4096).cow
    assert not vma_of(BASE, BASE + 4096, flags=VM_SHARED).cow


@pytest.mark.parametrize("nbytes", [0, -4096])
def test_a_mapping_of_nothing_is_refused(nbytes):
    with pytest.raises(BadInput) as caught:
        VmaTree().place(nbytes, 4096)
    assert str(caught.value) == f"mmap: length={nbytes} is not a positive number of bytes (-EINVAL)"


def test_the_address_space_ends():
    space = VmaTree()
    with pytest.raises(SyscallError) as caught:
        space.place(1 << 41, 4096)
    assert str(caught.value) == "mmap: 2048 GiB does not fit into the address space (-ENOMEM)"
    assert space.place(4096, 4096) == (BASE, BASE + 4096)


def test_each_task_has_a_terabyte_of_its_own():
    starts = [VmaTree(task).place(4096, 4096)[0] for task in range(3)]
    assert starts == [BASE, 0x7D00_0000_0000, 0x7B00_0000_0000]
    with pytest.raises(SyscallError, match="ENOMEM"):
        VmaTree(1).place(1 << 40, 4096)


def test_a_fixed_address_that_is_taken_is_refused():
    space, _ = space_of(8192)
    with pytest.raises(SyscallError) as caught:
        space.place(4096, 4096, BASE + 4096)
    assert str(caught.value) == "mmap: addr=0x7f0000001000+4096 is mapped already (-EEXIST)"
    assert space.place(4096, 4096, BASE + 8192) == (BASE + 8192, BASE + 12288)
    with pytest.raises(BadInput) as caught:
        space.place(4096, 4096, BASE + 1)
    assert str(caught.value) == "mmap: addr=0x7f0000000001 is not a multiple of 4096 (-EINVAL)"


def test_a_mapping_is_split_in_two_that_hold_what_it_did():
    space, (vma,) = space_of(12288)
    vma.table.set_range(0, 0x7000, 3, 7)
    space.split(BASE + 4096)
    left, right = space.vmas
    assert (left.start, left.end, right.start, right.end) == (BASE, BASE + 4096, BASE + 4096, BASE + 12288)
    assert (left.table.word(0), right.table.word(0), right.table.word(1)) == (0x7007, 0x8007, 0x9007)
    assert (left.pgoff, right.pgoff) == (0, 1)
    space.split(BASE + 4096)
    assert len(space.vmas) == 2


def test_what_lies_within_a_range():
    space, (first, second) = space_of(8192, 4096)
    assert list(space.within(BASE + 4096, second.start)) == [first]
    assert list(space.within(BASE + 8191, second.start + 1)) == [first, second]
    assert list(space.within(BASE + 8192, second.start)) == []
    space.remove(first)
    assert space.vmas == [second]
    assert space.find_vma(BASE) is None


def test_a_range_of_pages_is_rounded_up_and_nonsense_is_refused():
    assert page_range("munmap", BASE, 4097) == (BASE, BASE + 8192)
    with pytest.raises(BadInput) as caught:
        page_range("munmap", BASE + 8, 4096)
    assert str(caught.value) == "munmap: addr=0x7f0000000008 is not a multiple of 4096 (-EINVAL)"
    with pytest.raises(BadInput, match="is no range of user addresses"):
        page_range("munmap", 1 << 47, 4096)
