from xml.etree import ElementTree as ET

from labkit.lessons.plot import Plot

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
