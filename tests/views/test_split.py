import pytest

from labkit.views.journey import NEVER
from labkit.views.split import headline, split
from labkit.widgets.split import sample


def boxes(picture, *roles):
    rows = zip(*(picture.shapes[name] for name in ("left", "right", "t1", "t4", "role")), strict=True)
    return [(round(a), round(b), t1, t4) for a, b, t1, t4, role in rows if role in roles]


def test_each_step_says_what_fits_and_each_cut_by_which_rule():
    steps = split(*sample()).steps
    assert steps[3].text == "4 KiB at 0x4000_9000 fit: 4 of 4 segments, 16 KiB of 40 KiB."
    assert steps[4].text == (
        "Cut: 4 segments are all that max_segments=4 allows (SPLIT-3d). The front goes on as a request, the rest "
        "begins anew."
    )
    assert [step.layer for step in steps[4:7]] == ["cut", "vector 4", "cut"]


def test_cuts_are_drawn_where_the_pieces_end():
    assert [box[:3] for box in boxes(split(*sample()), "cut")] == [(474, 478, 4), (1014, 1018, 6)]


def test_a_gauge_is_full_where_its_limit_is_met():
    full = boxes(split(*sample()), "full")
    assert [(t1, t4) for _, _, t1, t4 in full] == [(3, 5), (10, NEVER), (5, 7)]  # segments twice, then bytes


def test_the_ruler_shows_the_borders_that_no_request_crosses():
    picture = split(*sample())
    assert "128" in picture.words["text"]  # 80 sectors behind sector 48
    assert "sector 48" in picture.words["text"]


def test_a_piece_grows_with_its_vectors():
    pieces = [box for box in boxes(split(*sample()), "rq0") if box[2] < 4]
    grown = sorted(box[1] for box in pieces if box[0] == 116)
    assert grown[0] < grown[-1] == 476


def test_the_headline_tells_pieces_and_rules():
    steps, *_ = sample()
    head, under = headline(steps, 65536)
    assert head == "A bio of 64 KiB in eight vectors becomes three pieces"
    assert under.startswith("One cut by SPLIT-3d, segments; one cut by SPLIT-2")
    assert headline(steps[:1], 4096) == ("A bio of 4 KiB in one vector becomes one piece", "No limit is in its way.")


@pytest.mark.parametrize("width", [1568, 668])
def test_nothing_leaves_the_page(width):
    picture = split(*sample(), width=width)
    assert min(picture.shapes["left"]) >= 0
    assert max(picture.shapes["right"]) <= width
    assert max(picture.shapes["bottom"]) <= picture.height


def test_nothing_taken_is_an_empty_picture():
    _, limits, _ = sample()
    assert split([], limits).steps == []
