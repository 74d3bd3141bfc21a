from labkit.views.shown.table import MOST, html, plain, table, text


def numbers(count: int):
    return table("Squares", ("n", "square of it", "word"), range(count), lambda n: (n, n * n, f"w{n}"))


def test_numbers_stand_right_and_words_left():
    assert text(table("T", ("n", "w"), [(1, "one"), (1000, None)], tuple)) == [
        "T:",
        "      n  w",
        "      1  one",
        "  1,000  –",
    ]
    assert "<td class=n>1,000</td><td>–</td>" in html(table("T", ("n", "w"), [(1, "one"), (1000, None)], tuple))


def test_an_amount_stands_right_and_a_sentence_that_begins_with_a_number_does_not():
    rows = [("4 KiB", "0x7000", "128 segments are all that there may be, says this long sentence")]
    drawn = html(table("T", ("a", "b", "c"), rows, tuple))
    assert "<td class=n>4 KiB</td><td>0x7000</td><td class=w>128 segments" in drawn


def test_a_table_of_forty_rows_is_whole_and_one_of_more_is_cut_in_the_middle():
    assert numbers(MOST).left_out == 0
    cut = numbers(MOST + 5)
    assert [row[0] for row in cut.rows] == [*range(20), *range(25, 45)]
    assert text(cut)[22] == "  … 5 more between these"
    assert html(cut).index(">w19<") < html(cut).index("… 5 more") < html(cut).index(">w25<")


def test_a_cell_is_one_line_of_what_prints_and_no_longer_than_told():
    assert plain("a\x1b[1m\nb\u202ec") == "a\\x1b[1m\\nb\\u202ec"
    assert plain("x" * 200) == "x" * 159 + "…"
    assert plain(True) == "True"


def test_a_table_without_rows_has_headings():
    assert text(numbers(0)) == ["Squares:", "  n  square of it  word"]
