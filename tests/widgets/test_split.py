from labkit.widgets import split


def test_it_opens_at_the_first_cut():
    scene = split.scene(*split.sample())
    assert scene.poster == 4
    assert scene.steps[4].text.startswith("Cut: 4 segments")


def test_without_a_cut_it_opens_at_the_end():
    steps, limits, sector = split.sample()
    assert split.scene(steps[:3], limits, sector).poster == 2


def test_nothing_taken_is_no_picture():
    _, limits, _ = split.sample()
    assert split.scene([], limits).figures == {}
