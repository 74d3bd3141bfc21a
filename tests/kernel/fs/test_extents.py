import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import BadInput
from labkit.kernel.fs.extents import Extent, ExtentMap, extent_of

K = 4096


def map_of(*extents, most=1 << 62):
    found = ExtentMap(K, most=most)
    for extent in extents:
        found.insert(extent)
    return found


def test_an_extent_that_goes_on_in_the_file_and_on_the_device_is_one():
    assert list(map_of(Extent(0, 8 * K, K), Extent(2 * K, 10 * K, K), Extent(K, 9 * K, K))) == [Extent(0, 8 * K, 3 * K)]


@pytest.mark.parametrize(
    "behind",
    [
        Extent(K, 10 * K, K),
        Extent(2 * K, 9 * K, K),
        Extent(K, 9 * K, K, "unwritten"),
        Extent(K, 9 * K, K, "mapped", shared=True),
    ],
)
def test_one_that_does_not_is_another(behind):
    assert list(map_of(Extent(0, 8 * K, K), behind)) == [Extent(0, 8 * K, K), behind]


def test_no_extent_is_longer_than_the_most():
    found = map_of(Extent(0, 8 * K, 5 * K), most=2 * K)
    assert list(found) == [Extent(0, 8 * K, 2 * K), Extent(2 * K, 10 * K, 2 * K), Extent(4 * K, 12 * K, K)]


@pytest.mark.parametrize(
    ("extent", "sentence"),
    [
        (Extent(K, 0, 2 * K), "[4096, 12288) lies over [8192, 16384)"),
        (Extent(3 * K, 0, 2 * K), "[12288, 20480) lies over [8192, 16384)"),
        (Extent(512, 0, K), "[512, 4608) is not of whole blocks of 4096 bytes"),
        (Extent(0, 0, 512), "[0, 512) is not of whole blocks of 4096 bytes"),
        (Extent(0, 512, K), "[0, 4096) is not of whole blocks of 4096 bytes"),
        (Extent(0, -1, K), "[0, 4096) is mapped at -1: it lies nowhere"),
        (Extent(0, K, K, "delalloc"), "[0, 4096) is delalloc at 4096: it lies nowhere"),
        (Extent(0, K, K, "hole"), "[0, 4096) is hole at 4096: it lies nowhere"),
        (Extent(-K, K, K), "[-4096, 0) is no part of a file"),
        (Extent(0, K, 0), "[0, 0) is no part of a file"),
    ],
)
def test_an_extent_that_cannot_be_is_refused_and_nothing_changes(extent, sentence):
    found = map_of(Extent(2 * K, 8 * K, 2 * K))
    with pytest.raises(BadInput) as caught:
        found.insert(extent)
    assert str(caught.value) == f"extents: {sentence} (-EINVAL)"
    assert list(found) == [Extent(2 * K, 8 * K, 2 * K)]


@pytest.mark.parametrize(("start", "stop"), [(0, 512), (512, K), (K, K), (2 * K, K), (-K, K)])
def test_only_whole_blocks_are_punched_or_converted(start, stop):
    for change in (map_of().punch, map_of().convert):
        with pytest.raises(BadInput, match="is not a range of whole blocks of 4096 bytes"):
            change(start, stop)


def test_a_hole_in_the_middle_makes_two():
    found = map_of(Extent(0, 8 * K, 4 * K))
    assert found.punch(K, 2 * K) == [Extent(K, 9 * K, K)]
    assert list(found) == [Extent(0, 8 * K, K), Extent(2 * K, 10 * K, 2 * K)]


def test_rule_dio_12_what_is_written_splits_and_joins_what_goes_on():
    found = map_of(Extent(0, 8 * K, 2 * K), Extent(2 * K, 10 * K, 4 * K, "unwritten"))
    assert found.convert(3 * K, 4 * K) == K
    assert list(found) == [
        Extent(0, 8 * K, 2 * K), Extent(2 * K, 10 * K, K, "unwritten"), Extent(3 * K, 11 * K, K),
        Extent(4 * K, 12 * K, 2 * K, "unwritten"),
    ]  # fmt: skip
    assert found.convert(0, 6 * K) == 3 * K
    assert list(found) == [Extent(0, 8 * K, 6 * K)]
    assert found.convert(0, 6 * K) == 0


def test_a_hole_is_not_converted_nor_what_has_no_place():
    found = map_of(Extent(K, -1, K, "delalloc"))
    assert found.convert(0, 4 * K) == 0
    assert list(found) == [Extent(K, -1, K, "delalloc")]


ROWS = [
    [0, 136323072, 4096, []],
    [8192, 136327168, 4096, ["SHARED"]],
    [73728, 8896512, 20480, []],
    [16777216, 167772160, 4194304, ["UNWRITTEN"]],
    [25165824, 0, 8192, ["DELALLOC", "UNKNOWN", "LAST"]],
]


def test_rows_of_fiemap_come_in_and_go_out():
    found = ExtentMap.from_rows(ROWS, K)
    assert [extent.state for extent in found] == ["mapped", "mapped", "mapped", "unwritten", "delalloc"]
    assert [extent.shared for extent in found] == [False, True, False, False, False]
    assert found.at(25165824).physical == -1
    assert list(found.rows()) == ROWS


def test_what_lies_beyond_the_last_block_of_the_file_is_left_out():
    found = ExtentMap.from_rows(ROWS, K, size=16777216 + 5000)
    assert list(found)[-1] == Extent(16777216, 167772160, 8192, "unwritten")
    assert list(ExtentMap.from_rows(ROWS, K, size=8192)) == [Extent(0, 136323072, 4096)]


def test_a_file_inside_its_inode_is_of_no_whole_blocks():
    found = ExtentMap.from_rows([[0, 123440, 33, ["DATA_INLINE", "NOT_ALIGNED", "LAST"]]], K)
    assert list(found.rows()) == [[0, 123440, 33, ["DATA_INLINE", "NOT_ALIGNED", "LAST"]]]


@pytest.mark.parametrize("row", [[0, 1], "row", [0, "here", 1, []], [None, 0, 1, []]])
def test_what_is_no_row_is_refused(row):
    with pytest.raises(BadInput, match=r"is not \[logical, physical, length, \[flags\]\]"):
        extent_of(row)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8), st.sampled_from(["insert", "punch", "convert"]))))
def test_the_bytes_of_a_file_lie_where_they_were_put(changes):
    """Each block of the model is None, or (device block, state): inserted far apart, so that nothing is said twice."""
    found, blocks, at = ExtentMap(K, most=4 * K), [None] * 40, 0
    for first, count, verb in changes:
        last, at = first + count, at + 100
        if verb == "punch":
            found.punch(first * K, last * K)
            blocks[first:last] = [None] * count
        elif verb == "convert":
            found.convert(first * K, last * K)
            blocks[first:last] = [block and (block[0], "mapped") for block in blocks[first:last]]
        elif not any(blocks[first:last]):
            found.insert(Extent(first * K, at * K, count * K, "unwritten"))
            blocks[first:last] = [(at + number, "unwritten") for number in range(count)]
    told = [None] * 40
    for extent in found:
        for number in range(extent.length // K):
            told[extent.logical // K + number] = (extent.physical // K + number, extent.state)
    assert told == blocks
    assert all(extent.length <= 4 * K for extent in found)
