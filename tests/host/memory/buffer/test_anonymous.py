import pytest

from labkit.errors import NotAllowed
from labkit.host.memory import kpageflags, pagemap
from labkit.host.memory.buffer import anonymous
from labkit.host.memory.buffer.space import Space
from labkit.host.memory.buffer.switches import PMD_SIZE

PAGE, KIB, MIB = 4096, 1 << 10, 1 << 20
pytestmark = [pytest.mark.host, pytest.mark.usefixtures("root")]


def look(space):
    rows = pagemap.rows(space.address, space.nbytes)
    return rows, kpageflags.sizes(rows)


def test_pages_in_order_are_small_and_all_there():
    with Space(MIB, PAGE) as space:
        anonymous.in_order(space)
        rows, sizes = look(space)
    assert sizes == (PAGE,)
    assert sum(pages for _, pfn, pages in rows if pfn > 0) == 256


def test_shuffled_pages_hardly_ever_follow_each_other():
    with Space(4 * MIB, PAGE) as space:
        anonymous.shuffled(space, seed=1)
        rows, sizes = look(space)
    assert sizes == (PAGE,)
    assert sum(pages for _, _, pages in rows) == 1024
    assert len(rows) > 900


@pytest.mark.parametrize("folio", [16 * KIB, 64 * KIB, 2 * MIB])
def test_memory_comes_in_folios_of_the_size_that_was_asked_and_every_setting_stays(folio, undo, says):
    before = says()
    with Space(4 * MIB, 2 * MIB) as space:
        anonymous.folios(space, folio, undo)
        rows, sizes = look(space)
    assert sizes == (folio,)
    assert all(address % folio == pfn * PAGE % folio == 0 for address, pfn, _ in rows)
    assert says() == before


def test_huge_pages_of_hugetlb_come_with_a_mapping_and_go_with_it(undo, says):
    before = says()
    with Space(4 * MIB, PMD_SIZE) as space:
        anonymous.hugetlb(space, undo)
        rows, sizes = look(space)
        kinds = [kpageflags.names(bits) for _, _, bits in kpageflags.large_folios(rows)]
    assert sizes == (2 * MIB,)
    assert all("HUGE" in names and "THP" not in names for names in kinds)
    assert len(kinds) == 2
    assert says() == before


def test_huge_pages_that_the_kernel_does_not_find_are_told_with_a_remedy(undo, says, monkeypatch):
    before = says()
    monkeypatch.setattr(anonymous.switches, "hugetlb", lambda _nbytes: {})
    with Space(1 << 45, PMD_SIZE) as space, pytest.raises(NotAllowed, match=r"32768 GiB of hugetlb .*compact_memory"):
        anonymous.hugetlb(space, undo)
    assert says() == before
