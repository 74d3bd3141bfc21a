from labkit.widgets import sequence


def test_it_opens_at_the_first_row_that_only_one_side_has():
    scene = sequence.scene(*sequence.sample())
    assert scene.steps[scene.poster].layer == "kernel only"
    assert [text for _, text in scene.legend][1] == "on one side only (+ kernel, - model)"


def test_where_all_is_the_same_it_opens_at_the_first_event_and_lights_nothing():
    rows = [row for row in sequence.sample()[0] if row.mark == "same"]
    scene = sequence.scene(rows)
    assert scene.poster == 0
    assert [text for _, text in scene.legend] == ["on both sides (=)", "looked at"]


def test_no_events_are_no_picture():
    assert sequence.scene([]).figures == {}
