import pytest

from labkit.views.timed import Band, Pen, Shape, Word
from labkit.widgets.theme import DARK, LIGHT, contrast
from labkit.widgets.timed import LOOKS, figure


def table(fig, name):
    return fig.select_one({"name": name}).data


def test_a_shape_has_the_look_of_its_role_and_begins_as_it_is_ahead():
    pen = Pen()
    pen.shapes.append(Shape(0, 0, 10, 10, "unwritten", 3, ahead=0.25))
    shapes = table(figure(pen.done(100, 50, []), "x"), "shapes")
    assert (shapes["fill"], shapes["hatch"], list(shapes["alpha"])) == (
        [LIGHT["hue1"]],
        ["right_diagonal_line"],
        [0.25],
    )


def test_a_band_goes_down_from_where_it_leaves_to_where_it_arrives():
    pen = Pen()
    pen.bands.append(Band(10, 0, 20, 60, 30, 80, "mapped"))
    bands = table(figure(pen.done(100, 80, []), "x"), "bands")
    xs, ys = bands["xs"][0], bands["ys"][0]
    assert (xs[0], ys[0], xs[23], ys[23]) == (0, 10, 30, 60)
    assert (xs[24], xs[-1]) == (80, 20)


def test_words_on_a_hatched_shape_get_a_plate_and_others_none():
    pen = Pen()
    pen.words.extend((Word(0, 0, "plain", back="mapped"), Word(0, 0, "hatched", back="unwritten"), Word(0, 0, "free")))
    fig = figure(pen.done(100, 50, []), "x")
    assert table(fig, "words")["text"] == ["plain", "free"]
    assert (table(fig, "plates")["text"], table(fig, "plates")["plate"]) == (["hatched"], [LIGHT["hue1"]])


@pytest.mark.parametrize("kinds", [("mapped", "unwritten", "delalloc", "inline", "shared", "hole"),
                                   tuple(f"rq{i}" for i in range(6))])  # fmt: skip
def test_kinds_that_must_be_told_apart_differ_by_colour_and_by_hatch_or_dash(kinds):
    looks = [LOOKS[kind] for kind in kinds]
    assert len({look.fill for look in looks}) == len(looks)
    assert len({(look.hatch, look.dash) for look in looks}) == len(looks)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_the_ink_on_each_request_can_be_read(palette):
    assert min(contrast(palette[f"hue{i}"], palette[f"on{i}"]) for i in range(6)) >= 4.5
