from labkit.views.shown.strip import Piece, html, strip


def test_a_piece_is_as_wide_as_it_is_long_and_says_what_it_is():
    drawn = html(strip([Piece(4096, "one"), Piece(8192, "<two>", "peer")], 2, "phyr"))
    assert 'class="ram" style="flex:4096 1 0" title="one"' in drawn
    assert 'class="peer" style="flex:8192 1 0" title="&lt;two&gt;"' in drawn
    assert 'aria-label="two phyrs"' in drawn


def test_of_many_pieces_neighbours_are_bundled_and_no_byte_is_lost():
    drawn = strip((Piece(n, f"p{n}") for n in range(1, 301)), 300, "phyr")
    assert len(drawn.pieces) == 100
    assert drawn.pieces[0] == Piece(6, "three phyrs, the first: p1")
    assert sum(piece.nbytes for piece in drawn.pieces) == 300 * 301 // 2
    assert "300 phyrs, neighbours drawn together as 100" in html(drawn)


def test_a_strip_of_nothing_is_nothing():
    assert html(strip([], 0, "phyr")) == ""
