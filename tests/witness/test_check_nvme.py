"""Predicted commands against recorded ones."""

import pytest

from labkit.witness.capture import Capture
from labkit.witness.check import residual
from labkit.witness.predict import predict


def lines(row):
    capture = Capture.of(row)
    return residual(capture, predict(capture))


def test_another_encoding_is_a_line(captured):
    row = captured("001")
    row["nvme"][0] |= {"encoding": "sgl", "sgl_type": 3}
    assert lines(row) == [
        "001-7.3-strict-512: nvme[0]: predicted 0+1 prp: 1 pieces 0x0+512, recorded 0+1 sgl: 1 pieces 0x0+512"
    ]


def test_another_address_is_a_line_where_addresses_are_certain(captured):
    row = captured("105")
    row["nvme"][0]["addrs"][0][0] += 4096
    (line,) = lines(row)
    assert line.endswith(" 1 pieces 0x6e00800+8192, recorded 0+16 sgl1: 1 pieces 0x6e01800+8192")


@pytest.mark.parametrize(("name", "at", "by", "differs"), [
    ("005", 0, 4096, True), ("005", 1, 4096, True), ("005", 0, 512, True),
    ("202", 0, 4096, False), ("202", 0, 512, True),
])  # fmt: skip
def test_behind_an_iommu_the_layout_of_the_range_is_compared_and_of_bounces_the_depth(name, at, by, differs, captured):
    row = captured(name)
    row["nvme"][0]["addrs"][at][0] += by
    assert bool(lines(row)) is differs


def test_the_whole_range_may_be_anywhere_but_as_deep_in_its_page(captured):
    row = captured("005")
    for piece in row["nvme"][0]["addrs"]:
        piece[0] += 1 << 20
    assert lines(row) == []
    for piece in row["nvme"][0]["addrs"]:
        piece[0] += 512
    assert len(lines(row)) == 1


@pytest.mark.parametrize("change", [lambda rows: rows.pop(), lambda rows: rows.append(rows[0])])
def test_a_command_more_or_less_is_a_line(change, captured):
    row = captured("011")
    change(row["nvme"])
    (line,) = lines(row)
    assert "nothing" in line


def test_pages_of_the_page_cache_are_anywhere_but_as_long(captured):
    row = captured("603")
    row["nvme"][1]["addrs"][0][0] += 4096
    assert lines(row) == []
    row["nvme"][1]["addrs"][0][1] -= 512
    assert len(lines(row)) == 1


def test_commands_that_were_not_recorded_are_not_compared(captured):
    row = captured("011")
    del row["nvme"]
    assert lines(row) == []
