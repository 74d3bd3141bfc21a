"""The pictures with steps as pages from a file, with the network off: keys, scrubber, pointer, table, themes."""

from functools import cache

import pytest

from labkit.widgets import (
    depth,
    descriptors,
    extents,
    frames,
    iova,
    pcie,
    pins,
    requests,
    residual,
    sequence,
    split,
    walk,
    zones,
)
from labkit.widgets.scene import standalone

pytestmark = pytest.mark.browser

LOCAL = ("file:", "data:", "blob:")
SCENES = {
    "zones": lambda: zones.scene(*zones.sample()),
    "walk": lambda: walk.scene(*walk.sample()),
    "pins": lambda: pins.scene(pins.sample()),
    "extents": lambda: extents.scene(extents.sample()),
    "requests": lambda: requests.scene(requests.sample()),
    "split": lambda: split.scene(*split.sample()),
    "iova": lambda: iova.scene(iova.sample()),
    "pcie": lambda: pcie.scene(pcie.sample(acs=True)),
    "descriptors": lambda: descriptors.scene(descriptors.sample()),
    "depth": lambda: depth.scene(depth.sample()),
    "frames": lambda: frames.scene(*frames.sample()),
    "sequence": lambda: sequence.scene(*sequence.sample()),
    "residual": lambda: residual.scene(residual.sample()),
}
TIMED = ("extents", "requests", "split", "iova", "pcie", "descriptors", "depth", "frames", "sequence", "residual")
ACTS = dict.fromkeys(TIMED, "timed.js")


@cache
def written(name):
    """Return the page of a picture's sample; making it takes longer than showing it."""
    return standalone(SCENES[name](), ACTS.get(name, f"{name}.js"))


@pytest.fixture
def show(chromium, tmp_path):
    """Open the page of a picture; at the end nobody may have complained."""
    complaints, contexts = [], []

    def _show(name, width=1600):
        (tmp_path / "page.html").write_text(written(name), "utf-8")
        contexts.append(chromium.new_context(viewport={"width": width, "height": 1000}, offline=True))
        page = contexts[-1].new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(LOCAL) or complaints.append(asked.url))
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_selector("[data-ready]", timeout=30_000)
        return page

    yield _show
    for context in contexts:
        context.close()
    assert complaints == []


def text(page):
    return page.locator("[data-text]").inner_text()


def at(page):
    return int(page.locator(".labkit").get_attribute("data-at"))


def table(page, name, column):
    model = "document.querySelector('.labkit').labkit.doc.get_model_by_name(name)"
    return page.evaluate(f"([name, column]) => Array.from({model}.data[column])", [name, column])


@pytest.mark.parametrize("name", SCENES)
def test_keys_step_and_the_sentence_follows(show, name):
    page = show(name)
    page.locator("[data-stage]").focus()
    page.keyboard.press("Home")
    first = text(page)
    page.keyboard.press("ArrowRight")
    assert (at(page), text(page) != first) == (1, True)
    page.keyboard.press("ArrowLeft")
    assert (at(page), text(page)) == (0, first)
    page.keyboard.press("End")
    assert at(page) == len(SCENES[name]().steps) - 1


@pytest.mark.parametrize("name", SCENES)
def test_scrubbing_changes_the_sentence_without_a_kernel(show, name):
    page = show(name)
    slider = page.get_by_role("slider", name="Step")
    told = set()
    for step in (0, 5, 9):
        slider.fill(str(step))
        assert at(page) == step
        told.add(text(page))
    assert len(told) == 3
    assert slider.get_attribute("aria-valuetext").endswith(text(page))


@pytest.mark.parametrize("name", SCENES)
def test_play_goes_to_the_end_and_stops(show, name):
    page = show(name)
    page.locator("[data-scrub]").fill(str(len(SCENES[name]().steps) - 3))
    page.select_option("[data-speed]", "4")
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("() => document.querySelector('.labkit').dataset.playing === 'false'")
    assert at(page) == len(SCENES[name]().steps) - 1


@pytest.mark.parametrize("name", SCENES)
def test_a_narrow_page_has_a_picture_of_its_own_and_keeps_the_step(show, name):
    page = show(name, width=700)
    which = "() => document.querySelector('.labkit').labkit.which"
    assert page.evaluate(which) == "narrow"
    page.locator("[data-scrub]").fill("3")
    page.set_viewport_size({"width": 1600, "height": 1000})
    page.wait_for_function(f"() => ({which})() === 'wide' && document.querySelector('.labkit').labkit.act")
    assert at(page) == 3
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("name", SCENES)
def test_the_picture_follows_what_the_reader_prefers(show, name):
    page = show(name)
    page.locator("[data-scrub]").fill("4")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => getComputedStyle(document.body).backgroundColor === 'rgb(18, 23, 30)'")
    page.wait_for_selector("[data-ready]")
    assert at(page) == 4


@pytest.mark.parametrize("name", SCENES)
def test_the_table_twin_leads_there(show, name):
    page = show(name)
    page.locator("summary").click()
    rows = page.locator("tbody tr")
    rows.nth(7).wait_for()
    assert rows.count() == len(SCENES[name]().steps)
    rows.nth(7).click()
    assert at(page) == 7
    assert rows.nth(7).get_attribute("aria-current") == "step"


def test_pointing_at_an_order_tells_of_it_and_a_click_goes_there(show):
    page = show("zones")
    page.locator("[data-scrub]").fill("0")
    box = page.locator("[data-stage]").bounding_box()
    page.mouse.move(box["x"] + 737, box["y"] + 640)
    tip = page.locator("[data-tip]").inner_text()
    assert tip.startswith("Normal, order 10: blocks of 4 MiB\n2,790 free, 10.9 GiB\n")
    assert "BUD-2" in tip
    page.mouse.click(box["x"] + 737, box["y"] + 640)
    assert text(page).startswith(
        "Blocks of 4 MiB in Normal: 2,790 free in “fresh boot” and 2 free in “months of uptime”"
    )


def test_phyrs_grow_with_the_walk_and_shrink_when_it_goes_back(show):
    page = show("walk")
    slider = page.locator("[data-scrub]")
    slider.fill("2")
    assert table(page, "phyrs", "alpha") == [1, 0, 0, 0, 0, 0, 0]
    slider.fill("40")
    assert table(page, "phyrs", "alpha") == [1] * 7
    assert table(page, "gauge_text", "text") == ["41", "41", "−EFAULT", "7", "−EFAULT", "0", "−EFAULT", "112"]
    slider.fill("2")
    assert table(page, "phyrs", "alpha") == [1, 0, 0, 0, 0, 0, 0]


def test_a_leaf_makes_the_lower_bits_an_offset(show):
    page = show("walk")
    page.locator("[data-scrub]").fill("24")
    assert table(page, "index", "text")[2:4] == ["0", "in the leaf"]
    assert table(page, "tables", "alpha") == [1, 1, 1, 0.25]


def test_up_and_down_choose_whose_holders_are_told(show):
    page = show("pins")
    who = page.locator("[data-who]")
    page.locator("[data-scrub]").fill("9")
    page.locator("[data-stage]").focus()
    page.keyboard.press("ArrowUp")
    assert who.inner_text().startswith(
        "Frames 0x140200 to 0x140203: IO 1 (pread64) holds it by policy range since 2.60"
    )
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert "IO 2 (pwrite64) holds it by policy page" in who.inner_text()
    assert table(page, "counts", "text")[6:] == ["1,025", "0", "1"]


def test_wrong_bytes_are_spelled_out_once_they_are_found(show):
    page = show("pins")
    bytes_ = page.locator("[data-bytes]")
    assert bytes_.locator("mark").all_inner_texts() == ["a5", "a5", "00", "00"]
    page.locator("[data-scrub]").fill("9")
    assert not bytes_.is_visible()


def test_true_time_keeps_the_event(show):
    page = show("pins")
    page.locator("[data-scrub]").fill("11")
    before = table(page, "cursor", "x")
    page.select_option("[data-scale]", "time")
    assert at(page) == 11
    assert table(page, "cursor", "x") != before


def test_a_press_on_the_rows_puts_the_cursor_there(show):
    page = show("pins")
    box = page.locator("[data-stage]").bounding_box()
    page.mouse.click(box["x"] + 300, box["y"] + 240)
    assert (at(page), page.locator(".labkit").get_attribute("data-row")) == (1, "2")


def test_pointing_at_bytes_tells_their_field_and_a_click_goes_there(show):
    page = show("descriptors")
    box = page.locator("[data-stage]").bounding_box()
    factor = box["width"] / 1568
    page.mouse.move(box["x"] + 80 * factor, box["y"] + 104 * factor)
    assert page.locator("[data-tip]").inner_text().splitlines()[0] == "NLB"
    page.mouse.click(box["x"] + 80 * factor, box["y"] + 104 * factor)
    assert text(page) == "NLB is 23: 24 blocks: the field is one less."


def test_a_stale_mapping_is_drawn_from_its_unmap_to_the_flush(show):
    page = show("iova")
    slider = page.locator("[data-scrub]")
    drawn = []
    for step in ("5", "6", "11", "12"):
        slider.fill(step)
        alphas = zip(table(page, "shapes", "alpha"), table(page, "shapes", "hatch"), strict=True)
        drawn.append(any(alpha == 1 and hatch == "right_diagonal_line" for alpha, hatch in alphas))
    assert drawn == [False, True, True, True]
    assert page.locator("[data-meter=stale]").inner_text() == "0"


def test_pointing_at_frames_tells_their_run_and_a_click_lights_its_ribbon(show):
    page = show("frames")
    box = page.locator("[data-stage]").bounding_box()
    factor = box["width"] / 1568
    page.mouse.move(box["x"] + 200 * factor, box["y"] + 174 * factor)
    assert page.locator("[data-tip]").inner_text().splitlines()[0] == "run 8 of 9"  # the lowest frames of all
    page.mouse.click(box["x"] + 200 * factor, box["y"] + 174 * factor)
    lit = [alpha for alpha in table(page, "bands", "alpha") if alpha == 0.7]
    assert (at(page), len(lit)) == (7, 1)


def test_a_bio_lights_every_ribbon_of_its_own(show):
    page = show("frames")
    page.locator("[data-scrub]").fill("9")
    assert table(page, "bands", "alpha").count(0.55) == 5


def test_the_list_of_events_follows_the_step(show):
    page = show("sequence")
    page.locator("[data-scrub]").fill("0")
    marks = zip(table(page, "shapes", "alpha"), table(page, "shapes", "t1"), table(page, "shapes", "t4"), strict=True)
    assert {(t1, t4) for alpha, t1, t4 in marks if alpha and t4 == t1 + 1} == {(0, 1)}


def test_pointing_at_an_io_that_differs_tells_the_first_difference(show):
    page = show("residual")
    assert at(page) == 17
    hot = page.evaluate(
        "() => { const h = document.querySelector('.labkit').labkit.here.hot; "
        "const i = h.tip.findIndex(t => t[0] === 'io-017'); return [h.left[i], h.top[i]]; }"
    )
    box = page.locator("[data-stage]").bounding_box()
    factor = box["width"] / 1568
    page.mouse.move(box["x"] + (hot[0] + 4) * factor, box["y"] + (hot[1] + 4) * factor)
    assert page.locator("[data-tip]").inner_text().splitlines()[-1].startswith("bios[1]: predicted")
