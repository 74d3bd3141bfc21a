from labkit.views.shown.sheet import Sheet
from labkit.views.shown.table import table

SHEET = Sheet(
    "A thing",
    ("proposed (somebody, 2024)", "odd"),
    (("one", "x"), ("two", "")),
    (("name", "value"), ("n", "1")),
    tables=(table("T", ("a",), [(1,)], tuple),),
    notes=("So it is.",),
)


def test_a_sheet_in_text():
    assert str(SHEET).splitlines() == [
        "A thing",
        "[proposed (somebody, 2024)] [odd]",
        "one (x) → two",
        "  name  value",
        "  n     1",
        "T:",
        "  a",
        "  1",
        "So it is.",
    ]


def test_a_sheet_in_html_labels_whose_idea_it_is_and_takes_its_ink_from_the_page():
    assert '<span class="proposed">proposed (somebody, 2024)</span><span>odd</span>' in SHEET.html
    assert "color: inherit" in SHEET.html
    assert "--jp-" not in SHEET.html
