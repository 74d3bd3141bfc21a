from labkit.views.timed import Band, Pen, Shape, Word, wide


def test_a_word_is_written_where_there_is_room_and_nowhere_else():
    pen = Pen()
    pen.fit((0, 0, 100, 20), "bio 1", Word(0, 0, "", 10))
    pen.fit((0, 0, 20, 20), "bio 1", Word(0, 0, "", 10))
    assert [(word.text, word.x, word.y, word.align) for word in pen.words] == [("bio 1", 50, 10, "center")]


def test_what_is_drawn_becomes_columns():
    pen = Pen()
    pen.shapes.append(Shape(1, 2, 3, 4, "bio", 5, 6))
    pen.bands.append(Band(0, 1, 2, 3, 4, 5, "mapped"))
    picture = pen.done(100, 50, [])
    assert (picture.shapes["left"], picture.shapes["t4"]) == ([1], [6])
    assert (picture.bands["role"], picture.words["text"]) == (["mapped"], [])
    assert (picture.width, picture.height) == (100, 50)


def test_a_longer_text_needs_more_room():
    assert wide("bio", 10) < wide("bio 1", 10) < wide("bio 1", 12)
