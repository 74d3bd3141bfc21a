import pytest

from labkit.views.residual import MOST, headline, ios, rate, residual
from labkit.widgets.residual import sample


def row(name, size, buffer="4KiB", first="", **parts):
    return {"id": name, "op": "r", "size": size, "buffer": buffer, "parts": parts, "first": first}


def cells(picture, role):
    rows = zip(*(picture.shapes[name] for name in ("left", "right", "top", "role")), strict=True)
    return [(round(left), round(top)) for left, right, top, found in rows if found == role and right - left < 16]


def test_a_cell_is_exact_only_where_all_that_was_compared_is():
    rows = [
        row("a", 4096, result=True, bios=True),
        row("b", 4096, result=True, bios=False),
        row("c", 4096, events=None),
    ]
    picture = residual(rows)
    assert [len(cells(picture, role)) for role in ("mapped", "full", "empty")] == [1, 1, 1]
    assert [io.exact for io in ios(rows)] == [True, False, None]
    assert picture.words["text"].count("×") == 1


def test_buffers_go_down_from_small_folios_and_sizes_across():
    rows = [row("a", 8192, "2MiB", result=True), row("b", 512, "4KiB", result=True), row("c", 9000, "own", result=True)]
    picture = residual(rows)
    (a, b, c) = sorted(cells(picture, "mapped"), key=lambda cell: cell[1])
    assert [name for name in picture.words["text"] if name in {"4KiB", "2MiB", "own"}] == ["4KiB", "2MiB", "own"]
    assert a[0] < b[0] == c[0]  # 512 B, then 8 KiB and 9,000 B in one column
    assert {"512 B", "8 KiB"} <= set(picture.words["text"])


def test_pointing_at_a_cell_tells_all_of_the_io():
    bad = row("x-3", 65536, first="bios[0]: predicted 2, recorded 1", result=True, bios=False)
    tips = residual([{**bad, "op": "w", "limits": {"max_sectors_kb": 64}}]).hot["tip"]
    assert (
        "x-3", "write of 64 KiB, buffer of 4KiB", "max_sectors_kb 64", "differs in bios",
        "bios[0]: predicted 2, recorded 1",
    ) in tips  # fmt: skip


def test_rates_count_only_what_was_compared():
    found = ios([row("a", 512, events=True), row("b", 512, events=None), row("c", 512, events=False)])
    assert rate(found, "events") == (1, 2)
    assert rate(found, "bios") == (0, 0)


def test_a_gauge_is_full_where_all_is_exact_and_hatched_where_not():
    def gauges(rows):
        picture = residual(rows)
        shapes = zip(*(picture.shapes[name] for name in ("left", "right", "role")), strict=True)
        return [(role, round(right - left)) for left, right, role in shapes if left == 0]

    assert gauges([row("a", 512, result=True)]) == [("row", 1538), ("mapped", 1538)]
    assert gauges([row("a", 512, result=False)]) == [("full", 1538)]


def test_the_steps_are_the_ios_in_their_order():
    steps = residual(sample()).steps
    assert len(steps) == 40
    assert steps[17].layer == "differs"
    assert steps[17].text == (
        "io-017: write of 64 KiB, buffer of 64KiB (max_sectors_kb 320): differs in bios, events. "
        "bios[1]: predicted sector 4096: 256 vectors, recorded nothing"
    )


def test_the_headline_tells_the_rate_of_each_part():
    assert headline(ios(sample())) == (
        "39 of 40 IOs are exact",
        "Result 100 % of 40; bios 97.5 % of 40; splits 100 % of 40; requests 100 % of 40; events 97.4 % of 39.",
    )
    assert headline(ios([row("a", 512, result=True)]))[0] == "The one IO is exact"
    assert headline(ios([row("a", 512)]))[0] == "One IO and nothing to compare with"
    assert headline([])[0] == "No IOs"


def test_a_part_that_nobody_foresaw_has_a_gauge_too():
    assert "nvme" in residual([row("a", 512, result=True, nvme=True)]).words["text"]


def test_above_the_most_a_cell_stands_for_several_and_one_that_differs_shows():
    rows = [row(f"{i}", 4096, result=i != 1700) for i in range(2 * MOST)]
    picture = residual(rows)
    assert len(cells(picture, "mapped")) + len(cells(picture, "full")) == MOST
    assert len(cells(picture, "full")) == 1
    assert len(picture.steps) == 2 * MOST
    assert ("1700 and 1 more", "read of 4 KiB, buffer of 4KiB", "differs in result") in picture.hot["tip"]


@pytest.mark.parametrize("width", [1568, 668])
@pytest.mark.parametrize("many", [1, 40, 1600])
def test_nothing_leaves_the_page(width, many):
    rows = [row(f"{i}", 512 << i % 16, f"kind {i % 9}", result=True, bios=True, splits=True, events=True)
            for i in range(many)]  # fmt: skip
    picture = residual(rows, width)
    assert min(picture.shapes["left"]) >= -2
    assert max(picture.shapes["right"]) <= width
    assert max(picture.shapes["bottom"]) <= picture.height


def test_no_ios_are_an_empty_picture():
    assert residual([]).steps == []
