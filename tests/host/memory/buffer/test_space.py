import errno
import mmap
from contextlib import suppress

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.memory import pagemap_scan
from labkit.host.memory.buffer import space as space_module
from labkit.host.memory.buffer.space import HUGEPAGE, NOHUGEPAGE, Space, check_room

PAGE, MIB = 4096, 1 << 20


def present(space):
    """The numbers of the pages of `space` that are in memory."""
    try:
        regions = pagemap_scan.scan(space.address, space.nbytes)
    except NotAllowed as no:
        pytest.skip(str(no))
    firsts = [((region.address - space.address) // PAGE, region.pages) for region in regions]
    return [page for first, pages in firsts for page in range(first, first + pages)]


@pytest.mark.parametrize("align", [PAGE, 64 << 10, 2 * MIB])
def test_a_space_begins_at_a_multiple_of_what_was_asked(align):
    with Space(3 * PAGE, align) as space:
        assert space.address % align == 0
        view = space.view(5000)
        assert (len(view), bytes(view)) == (5000, bytes(5000))
        view[4999] = 7
        assert space.view(5000)[4999] == 7
        view.release()


def test_nothing_is_there_before_it_is_touched():
    with Space(8 * PAGE, PAGE) as space:
        space.advise(NOHUGEPAGE)
        assert present(space) == []
        space.touch([5, 2])
        assert present(space) == [2, 5]
        space.populate()
        assert present(space) == list(range(8))


def test_a_closed_space_is_unmapped(mapped):
    space = Space(64 * MIB, 2 * MIB)
    assert mapped(space.address + 32 * MIB)
    space.close()
    assert not mapped(space.address + 32 * MIB)
    space.close()


def test_a_slice_that_is_held_keeps_its_memory_and_nothing_after_it_does(mapped):
    space = Space(64 * MIB, 2 * MIB)
    part = space.view(MIB)[PAGE : 2 * PAGE]
    part[0] = 9
    space.close()
    assert (part[0], mapped(space.address)) == (9, True)
    address = space.address
    part.release()
    del space
    assert not mapped(address)


def test_what_is_placed_lies_over_the_memory_and_goes_with_it(tmp_path, mapped):
    path = tmp_path / "file"
    path.write_bytes(b"a" * PAGE + b"b" * PAGE)
    with path.open("r+b") as file, Space(4 * PAGE, PAGE) as space:
        space.place(file.fileno(), mmap.MAP_SHARED, 2 * PAGE, PAGE, PAGE)
        assert bytes(space.view(4 * PAGE)) == bytes(2 * PAGE) + b"b" * PAGE + bytes(PAGE)
        space.view(3 * PAGE)[2 * PAGE] = ord("c")
    assert not mapped(space.address)
    assert path.read_bytes()[PAGE : PAGE + 2] == b"cb"


def test_more_than_the_addresses_there_are_is_refused_with_what_to_check():
    for nbytes in (1 << 50, 1 << 80):
        with pytest.raises(SyscallError, match=r"does not fit: lower the size, or check ulimit -v.*\(-ENOMEM\)"):
            Space(nbytes, PAGE)


def test_what_cannot_be_placed_is_told_by_its_errno():
    with Space(PAGE, PAGE) as space, pytest.raises(SyscallError, match=r"mmap of 4 KiB fails.*\(-EBADF\)"):
        space.place(12345, mmap.MAP_SHARED)


def test_a_kernel_before_5_14_is_told_so(monkeypatch):
    monkeypatch.setattr(Space, "_madvise", lambda *_: errno.EINVAL)
    with Space(PAGE, PAGE) as space, pytest.raises(NotAllowed, match=r"came with Linux 5\.14: run a newer kernel"):
        space.populate()


def test_memory_that_cannot_be_had_is_told_when_it_is_touched(monkeypatch):
    monkeypatch.setattr(Space, "_madvise", lambda *_: errno.ENOMEM)
    with Space(PAGE, PAGE) as space, pytest.raises(SyscallError, match=r"lower the size.*\(-ENOMEM\)"):
        space.populate()


def test_a_kernel_without_huge_pages_needs_no_advice_against_them(monkeypatch):
    monkeypatch.setattr(Space, "_madvise", lambda *_: errno.EINVAL)
    with Space(PAGE, PAGE) as space:
        space.advise(NOHUGEPAGE)
        with pytest.raises(SyscallError, match=r"madvise 14 of 4 KiB fails: Invalid argument \(-EINVAL\)"):
            space.advise(HUGEPAGE)


def test_more_than_the_free_memory_is_not_even_tried(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:       8 kB\n")
    monkeypatch.setattr(space_module, "_MEMINFO", tmp_path / "meminfo")
    check_room(8192)
    with pytest.raises(NotAllowed, match=r"12 KiB is more than the 8 KiB that are free.*\(-ENOMEM\)"):
        check_room(12288)


def test_an_error_on_the_way_leaves_no_mapping(mapped):
    addresses = []
    with suppress(KeyboardInterrupt), Space(64 * MIB, 2 * MIB) as space:
        addresses.append(space.address)
        raise KeyboardInterrupt
    assert not mapped(addresses[0] + MIB)
