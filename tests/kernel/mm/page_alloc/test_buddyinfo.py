import re

import pytest

from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.page_alloc.buddyinfo import buddyinfo, pagetypeinfo, zoneinfo

REAL = "Node 0, zone   Normal   5368   3499   1679   1438    669    787    631    153    283    129    763 "
"""A line of /proc/buddyinfo of a Linux 6.18 machine."""
LINE = re.compile(r"Node (\d+), zone {1,8}(\w+) ((?: *\d+ ){11})")


def parse(line):
    found = LINE.fullmatch(line)
    return found[2], [int(word) for word in found[3].split()]


@pytest.fixture
def buddy():
    made = Buddy(64 << 20)
    made.alloc_pages(4)
    made.alloc_pages(5, migratetype=0)
    return made


def test_what_reads_a_real_machine_reads_this_one(buddy):
    assert parse(REAL) == ("Normal", [5368, 3499, 1679, 1438, 669, 787, 631, 153, 283, 129, 763])
    assert [parse(line) for line in buddyinfo(buddy.info()).splitlines()] == [
        ("DMA", [1, 1, 1, 1, 1, 2, 1, 0, 1, 1, 3]),
        ("DMA32", [0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 10]),
    ]


def test_a_line_is_as_wide_as_the_kernels(buddy):
    assert buddyinfo(buddy.info()).splitlines()[1] == (
        "Node 0, zone    DMA32      0      0      0      0      1      2      2      2      2      2     10 "
    )


def test_pagetypeinfo_tells_the_types_apart(buddy):
    lines = pagetypeinfo(buddy.info()).splitlines()
    assert lines[:3] == ["Page block order: 9", "Pages per block:  512", ""]
    assert lines[3].startswith("Free pages count per migrate type at order       0      1      2 ")
    assert lines[5].startswith("Node    0, zone      DMA, type      Movable      1      1      1 ")
    assert lines[10].split()[-11:] == ["0", "0", "0", "0", "0", "1", "1", "1", "1", "1", "0"]
    assert lines[11].split()[-11:] == ["0", "0", "0", "0", "1", "1", "1", "1", "1", "1", "10"]
    assert lines[-3:] == [
        "Number of blocks type     Unmovable      Movable  Reclaimable   HighAtomic          CMA      Isolate ",
        "Node 0, zone      DMA            0            8            0            0            0            0 ",
        "Node 0, zone    DMA32            2           22            0            0            0            0 ",
    ]


def test_zoneinfo_tells_the_marks(buddy):
    text = zoneinfo(buddy.info())
    assert (
        text[text.index("Node 0, zone    DMA32") :]
        == """\
Node 0, zone    DMA32
  pages free     12240
        boost    0
        min      192
        low      240
        high     288
        promo    336
        spanned  12288
        present  12288
        managed  12288
        cma      0
        protection: (0, 0, 0, 0)
  pagesets
    cpu: 0
              count:    0
              high:     120
              batch:    3
"""
    )


def test_free_frames_are_the_same_in_the_text_and_in_the_zones(buddy):
    for zone, info in zip(reversed(buddy.zones), buddy.info(), strict=True):
        assert info.nr_free + info.pcp == zone.nr_free
