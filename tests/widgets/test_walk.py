from labkit.views.walk import walk as columns
from labkit.views.walk_layout import lay
from labkit.widgets import walk


def table(fig, name):
    return fig.select_one({"name": name}).data


def test_nothing_is_found_before_the_first_step():
    fig = walk.figure(lay(columns(*walk.sample())))
    assert table(fig, "pages")["alpha"] == [0.0] * 7
    assert table(fig, "pages_ahead")["bottom"] == table(fig, "pages")["whole"]


def test_ribbons_join_pages_to_frames_and_frames_to_phyrs():
    fig = walk.figure(lay(columns(*walk.sample())))
    found, told = table(fig, "found"), table(fig, "told")
    assert len(found["xs"]) == len(told["xs"]) == 7
    assert found["xs"][0][0] < told["xs"][0][0]


def test_today_and_phyr_differ_by_hatch_too():
    fig = walk.figure(lay(columns(*walk.sample())))
    assert table(fig, "gauges")["hatch"] == ["right_diagonal_line", " "] * 4


def test_the_script_knows_the_entry_and_its_bits_at_each_step():
    data = walk.scene(*walk.sample()).data
    assert data["word"][24] == ["0x67", "0x67", "0x1_4020_00e7"]
    assert data["bits"][24] == [1, 1, 1, 1, 1, 1, 0]
    assert data["bits"][40] == [1, 1, 1, 1, 1, 0, 1]
    assert data["done"][:7] == [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0, 1.0]


def test_bits_that_nobody_recorded_are_not_made_up():
    data = walk.scene([(0x7000, 0x1000, 4096)]).data
    assert data["word"] == [["", "", "", "0x1001"]]
    assert data["bits"] == [[1, 0, 0, 0, 0, 0, 0]]
