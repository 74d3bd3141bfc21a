import tempfile
from pathlib import Path

import pytest

from labkit.errors import NotAllowed
from labkit.host.memory import kpageflags, pagemap, pagemap_scan
from labkit.host.memory.buffer import shared
from labkit.host.memory.buffer.space import Space

PAGE, MIB = 4096, 1 << 20


def opened():
    return sorted(Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("put", [shared.memfd, shared.file])
def test_a_file_becomes_memory_that_is_there_and_nothing_stays_open(put, place):
    before = opened()
    with Space(MIB, PAGE) as space:
        put(space)
        try:
            regions = pagemap_scan.scan(space.address, MIB)
        except NotAllowed as no:
            pytest.skip(str(no))
        view = space.view(MIB)
        view[-1] = 3
        assert (view[0], view[-1]) == (0, 3)
        view.release()
        assert opened() == before
    assert sum(region.pages for region in regions) == 256
    assert all({"FILE", "PRESENT"} <= region.what for region in regions)
    assert list(place.iterdir()) == []


@pytest.mark.host
@pytest.mark.usefixtures("root")
def test_shared_memory_is_small_and_in_huge_pages_where_asked(undo, says):
    before = says()
    with Space(4 * MIB, 2 * MIB) as small, Space(4 * MIB, 2 * MIB) as huge:
        shared.memfd(small)
        with shared.huge_memfd(huge, undo):
            pass
        sizes = [kpageflags.sizes(pagemap.rows(space.address, space.nbytes)) for space in (small, huge)]
    assert sizes == [(PAGE,), (2 * MIB,)]
    assert says() == before


def test_without_a_place_for_a_file_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with Space(PAGE, PAGE) as space, pytest.raises(NotAllowed, match="set TMPDIR to a directory with room"):
        shared.file(space)


def test_a_full_disk_is_told_and_the_file_is_gone(monkeypatch, place):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = opened()
    monkeypatch.setattr(shared.os, "fdatasync", full)
    with Space(PAGE, PAGE) as space, pytest.raises(NotAllowed, match=r"No space left on device.*\(-ENOSPC\)"):
        shared.file(space)
    assert (list(place.iterdir()), opened()) == ([], before)
