import json

from labkit.widgets.figure import figure
from labkit.widgets.page import standalone
from labkit.widgets.picture import picture


def backends(value):
    if isinstance(value, dict):
        if value.get("type") == "object" and value.get("name") in {"Figure", "Plot"}:
            yield value.get("attributes", {}).get("output_backend", "canvas")
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from backends(each)


def data_of(page):
    begin = page.index('id="picture">') + 13
    return json.loads(page[begin : page.index("</script>", begin)])


def test_every_picture_of_a_figure_is_drawn_in_vectors(traces):
    assert list(backends(data_of(figure(traces.SMALL))["item"])) == ["svg", "svg"]
    assert list(backends(data_of(standalone(traces.SMALL))["item"])) == ["canvas", "canvas"]


def test_a_figure_is_the_page_and_the_script_that_takes_it(traces):
    page = figure(traces.SMALL)
    module = page.split('<script type="module">')[1]
    assert module.index("await draw()") < module.index("get_serialized_svg")
    assert 'data-theme="light"' in page
    assert "get_serialized_svg" not in standalone(traces.SMALL).split('<script type="module">')[1]


def test_the_cursor_is_the_last_record_until_then(traces):
    times = picture(traces.SMALL)["data"]["t"]
    for at in (0, times[3], times[3] + 1, times[-1] + 10**9):
        poster = data_of(figure(traces.SMALL, at=at))["data"]["poster"]
        assert times[poster] <= at
        assert poster == len(times) - 1 or times[poster + 1] > at


def test_a_figure_of_no_records_has_no_picture(traces):
    assert data_of(figure(traces.EMPTY))["item"] is None
