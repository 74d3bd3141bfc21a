from labkit.views.pins import pins as columns
from labkit.widgets import pins


def table(fig, name):
    return fig.select_one({"name": name}).data


def test_policies_differ_by_hatch():
    past = table(pins.figure(columns(pins.sample())), "past")
    assert past["hatch"] == [" ", " ", " ", "right_diagonal_line"]


def test_ios_differ_by_colour():
    past = table(pins.figure(columns(pins.sample())), "past")
    assert past["color"] == ["#0072B2", "#009E73", "#0072B2", "#E69F00"]


def test_a_broken_invariant_is_a_cross_on_the_row_it_struck():
    marks = table(pins.figure(columns(pins.sample())), "marks")
    assert marks["marker"] == ["diamond", "x"]
    assert marks["struck"][1] > 0 > marks["struck"][0]


def test_it_opens_at_what_broke_and_at_its_row():
    scene = pins.scene(pins.sample())
    assert scene.steps[scene.poster].layer == "invariant"
    assert scene.data["row"] == 1


def test_without_a_violation_it_opens_in_the_middle_of_the_pins(traces):
    assert pins.scene(traces.SMALL).poster == 9
