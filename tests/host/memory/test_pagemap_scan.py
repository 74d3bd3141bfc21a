import errno

import numpy as np
import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.memory import pagemap_scan
from labkit.host.memory.arena import arena
from labkit.host.memory.pagemap_scan import Region, scan

PAGE = 4096


def address(view):
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def asked(view, at, pages):
    try:
        return scan(address(view) + at, pages * PAGE)
    except NotAllowed as no:
        pytest.skip(str(no))


def test_pages_that_were_touched_are_told_and_the_others_are_not():
    view = arena(64 * PAGE)
    for page in (3, 4, 5, 9):
        view[page * PAGE] = 1
    here = frozenset({"PRESENT"})
    assert asked(view, 0, 64) == [Region(address(view) + 3 * PAGE, 3, here), Region(address(view) + 9 * PAGE, 1, here)]
    assert asked(view, 5 * PAGE + 7, 2) == [Region(address(view) + 5 * PAGE, 1, here)]


def test_a_page_that_was_only_read_is_the_zero_page():
    view = arena(4 * PAGE)
    assert view[PAGE] == 0
    assert asked(view, 0, 4) == [Region(address(view) + PAGE, 1, frozenset({"PRESENT", "PFNZERO"}))]


def test_more_regions_than_one_call_tells_are_told_by_several(monkeypatch):
    view = arena(64 * PAGE)
    for page in range(0, 64, 2):
        view[page * PAGE] = 1
    monkeypatch.setattr(pagemap_scan, "_MOST", 5)
    assert [(region.address - address(view)) // PAGE for region in asked(view, 0, 64)] == list(range(0, 64, 2))


def test_no_bytes_are_no_regions():
    assert asked(arena(PAGE), 0, 0) == []


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EINVAL])
def test_an_older_kernel_is_told_so(monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(pagemap_scan.fcntl, "ioctl", refuse)
    with pytest.raises(NotAllowed, match=r"PAGEMAP_SCAN came with Linux 6\.7: run a newer kernel"):
        scan(0x1000, PAGE)


def test_any_other_failure_is_told_by_its_errno(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EFAULT, "Bad address")

    monkeypatch.setattr(pagemap_scan.fcntl, "ioctl", refuse)
    with pytest.raises(SyscallError, match=r"PAGEMAP_SCAN fails: Bad address \(-EFAULT\)"):
        scan(0x1000, PAGE)
