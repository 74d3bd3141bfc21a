from dataclasses import replace

import pytest

from labkit.lessons.shown import Told, demonstration
from labkit.witness.demos import DEMOS


def told(name):
    return Told(DEMOS[name].replay(why="it: needs root"))


def test_the_text_is_the_line_the_table_and_what_follows():
    lines = repr(told("registered-pins")).splitlines()
    assert lines[0] == "Registered buffers take no pins for an IO"
    assert lines[1].startswith("it: needs root. Shown instead: a recording of ")
    assert lines[2].split() == ["step", "pages", "pinned", "pages", "let", "go", "of"]
    assert lines[-2:] == ["The model says the same.", DEMOS["registered-pins"].sentence]


def test_the_page_is_a_table_with_headings():
    page = told("registered-pins")._repr_html_()
    assert page.count("<tr>") == 5
    assert page.count("<th ") == 3


def test_what_a_kernel_says_is_escaped():
    shown = told("registered-pins").shown
    evil = Told(replace(shown, seen=shown.seen._replace(rows=[["<img src=x>", 1, 2]])))
    assert "<img" not in evil._repr_html_()


def test_of_many_rows_the_first_are_shown_and_the_others_counted():
    shown = told("fork-copies").shown
    rows = shown.seen.rows * 3
    many = Told(replace(shown, seen=shown.seen._replace(rows=rows)))
    assert f"... and {len(rows) - 20} rows more" in repr(many)
    assert many._repr_html_().count("<tr>") == 21


def test_where_the_model_is_silent_or_wrong_it_says_so():
    shown = told("registered-pins").shown
    assert Told(replace(shown, model={})).lines[0] == "The model knows nothing of this."
    name = next(iter(shown.seen.answers))
    assert Told(replace(shown, model={name: "0, 0"})).lines[0] == f"The model says otherwise about: {name}."


def test_a_demonstration_that_is_none_is_refused():
    with pytest.raises(KeyError):
        demonstration("levitation")
