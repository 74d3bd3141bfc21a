"""What a captured IO was done on: extents."""

from labkit.witness.files import with_new


def test_new_blocks_are_known_where_there_were_holes_alone():
    before = [(4096, 81920, 4096, ["UNWRITTEN"]), (16384, 90112, 4096, [])]
    after = [(0, 77824, 12288, []), (16384, 90112, 8192, ["LAST"])]
    assert with_new(before, after) == [
        (0, 77824, 4096, []), (4096, 81920, 4096, ["UNWRITTEN"]), (8192, 86016, 4096, []),
        (16384, 90112, 4096, []), (20480, 94208, 4096, ["LAST"]),
    ]  # fmt: skip


def test_without_new_blocks_they_are_what_they_were():
    rows = [(0, 77824, 4096, []), (4096, 86016, 4096, [])]
    assert with_new(rows, [(0, 77824, 4096, ["MERGED"]), (4096, 86016, 4096, [])]) == rows
    assert with_new([], rows) == rows
