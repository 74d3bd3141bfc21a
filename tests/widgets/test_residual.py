from labkit.widgets import residual


def test_it_opens_at_the_first_io_that_differs():
    assert residual.scene(residual.sample()).poster == 17


def test_where_all_is_exact_it_opens_at_the_first_and_the_legend_has_no_cross():
    scene = residual.scene(residual.sample()[:10])
    assert scene.poster == 0
    assert [text for _, text in scene.legend] == ["as predicted"]


def test_no_ios_are_no_picture():
    assert residual.scene([]).figures == {}
