from xml.etree import ElementTree as ET

from labkit.lessons.plot import Curves, Plot

LINE = Plot(((0, 1), (0.5, 124), (1, 256)), x="fragmentation", y="phyrs per <MiB>")


def test_a_plot_is_a_table_where_there_is_no_screen():
    assert repr(LINE).splitlines() == [
        "phyrs per <MiB> against fragmentation",
        "           0            1",
        "         0.5          124",
        "           1          256",
    ]


def test_the_drawing_is_well_formed_and_says_its_points():
    drawing = ET.fromstring(LINE._repr_html_())  # noqa: S314 - written a line ago
    assert drawing.get("aria-label") == "phyrs per <MiB> against fragmentation: 0: 1; 0.5: 124; 1: 256"
    assert [(dot.get("cx"), dot.get("cy")) for dot in drawing.findall("circle")] == [
        ("90", "193"), ("290", "116"), ("490", "34"),
    ]  # fmt: skip


def test_a_single_point_and_a_row_of_zeros_can_be_drawn():
    assert "<circle" in Plot(((3, 0),), "x", "y")._repr_html_()


LINES = Curves({"page": [(0, 256), (1, 256)], "phyr": [(0, 8), (1, 256)]}, x="fragmentation", y="segments <per> MiB")


def test_curves_are_a_table_with_a_column_each_where_there_is_no_screen():
    assert repr(LINES).splitlines() == [
        "segments <per> MiB",
        " fragmentation        page        phyr",
        "             0         256           8",
        "             1         256         256",
    ]


def test_each_curve_has_a_colour_and_a_dash_of_its_own_and_its_points_are_said():
    drawing = ET.fromstring(LINES._repr_html_())  # noqa: S314 - written a line ago
    looks = [(line.get("stroke"), line.get("stroke-dasharray")) for line in drawing.findall("polyline")]
    assert len({colour for colour, _ in looks}) == len({dash for _, dash in looks}) == 2
    assert drawing.get("aria-label").endswith("page 0: 256, 1: 256; phyr 0: 8, 1: 256")
