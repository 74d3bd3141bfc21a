import pytest

from labkit.trace.events import DmaMap, DmaUnmap, IoPageFault, SwiotlbBounced
from labkit.trace.trace import Trace
from labkit.views.iova import headline, iova
from labkit.views.mappings import mappings
from labkit.widgets.iova import sample

ONE = ((0x4000, 4096),)
DIRECT = DmaMap(100, 1, 1, ONE, ONE, 1, 0, 0, 0)
BOUNCED = (
    SwiotlbBounced(5, 0, 0x1_4000_0000, 0x3000, 4096),
    DmaMap(10, 1, 1, ((0x3000, 4096),), ((0x1_4000_0000, 4096),), 1, 0, 0, 0, "phys", 0, 4096),
    DmaUnmap(900, 1, 1, 0, stale=False, bounced=4096),
)


def boxes(picture, *roles):
    rows = zip(*(picture.shapes[name] for name in ("left", "right", "top", "t1", "t4", "role")), strict=True)
    return [(round(a), round(b), t1, t4) for a, b, top, t1, t4, role in rows if role in roles and top < 300]


def test_a_mapping_is_a_block_that_goes_stale_and_then_free():
    picture = iova(sample())
    first = [box for box in boxes(picture, "mapped", "stale", "empty") if box[:2] == (417, 1556)]
    assert [(t1, t4) for *_, t1, t4 in first] == [(12, 1 << 30), (6, 12), (0, 6)]


def test_the_window_says_its_length():
    words = iova(sample()).words
    at = words["text"].index("still reachable: 10.00 ms")
    assert words["t1"][at] == 6


def test_each_iommu_entry_is_a_cell():
    cells = boxes(iova(sample()), "vec0", "vec1")
    assert [(t1, t4) for *_, t1, t4 in cells] == [(0, 6)] * 4 + [(2, 10)]


def test_ribbons_lead_to_each_physical_range_and_stay_while_stale():
    bands = iova(sample()).bands
    assert list(zip(bands["role"], bands["t1"], bands["t4"], strict=True)) == [
        ("mapped", 0, 6), ("cut", 6, 12), ("mapped", 0, 6), ("cut", 6, 12), ("mapped", 2, 10), ("cut", 10, 12),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ((DIRECT,), "Direct: a device address is the physical one."),
        (BOUNCED, "The device is given bounce buffers that it can reach, and the CPU copies."),
        ((DIRECT._replace(how="bus"),), "Peer to peer: the device is given its neighbour's own bus addresses."),
        ((DIRECT._replace(how="premapped"),), "Mapped before the IO, once, and for good."),
        (
            (DIRECT._replace(dma=((0x9000, 4096),)),),
            "Xen: the device is given the machine's addresses, of which the guest knows nothing.",
        ),
    ],
)
def test_each_way_to_map_is_named(records, said):
    assert headline(mappings(Trace(records)))[1] == said


def test_the_headline_tells_the_longest_window():
    assert headline(mappings(sample())) == (
        "Two mappings of 20 KiB in two device ranges over three physical ranges",
        ("The IOMMU leads device addresses to the pages, wherever they are; the longest is reachable for 10.00 ms "
        "after its unmap."),
    )  # fmt: skip


def test_an_address_that_nothing_answers_is_marked_where_it_is():
    picture = iova(Trace((DIRECT, IoPageFault(200, 1, 1, 0x9000, write=False))))
    assert [(t1, t4) for *_, t1, t4 in boxes(picture, "cut")] == [(1, 1 << 30)]
    assert "▼ nothing answers here" in picture.words["text"]


@pytest.mark.parametrize("width", [1568, 668])
def test_nothing_leaves_the_page(width):
    picture = iova(sample(), width)
    assert min(picture.shapes["left"]) >= 0
    assert max(picture.shapes["right"]) <= width
    assert max(picture.shapes["bottom"]) <= picture.height


def test_much_is_bounded():
    many = tuple(
        DmaMap(i, 1, i, ((0x10_0000 - 4096 * i, 4096),), ((8192 * i, 4096),), 1, 0, 0, 0, "iova", 1) for i in range(300)
    )
    picture = iova(Trace(many))
    assert "276 more mappings without a row" in picture.words["text"]
    assert len(picture.shapes["left"]) < 3500


def test_of_very_many_ranges_one_in_a_row_is_drawn():
    dma = tuple((0x10_0000_0000 + 8192 * i, 4096) for i in range(2000))
    picture = iova(Trace((DmaMap(0, 1, 1, dma, dma, 2000, 0, 0, 0),)))
    assert "of 4 ranges in a row one is drawn" in picture.words["text"]
    assert len(picture.bands["role"]) == 500
    assert len(picture.shapes["left"]) < 2100


def test_without_a_mapping_there_are_no_blocks():
    assert iova(Trace(())).steps == []
    assert headline(mappings(Trace(())))[0] == "Nothing was mapped for a device"
