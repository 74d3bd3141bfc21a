"""The exported page, opened from a file with the network off: it plays, scrubs, steps, and says what happens."""

import importlib.util
from pathlib import Path

import pytest

from labkit.cli.export import write

pytestmark = pytest.mark.browser

_SPEC = importlib.util.spec_from_file_location("traces", Path(__file__).parents[1] / "views" / "traces.py")
traces = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(traces)


class Opened:
    """A page, and what it complained of."""

    def __init__(self, context, path):
        self.complaints = []
        self.page = context.new_page()
        self.page.on("console", lambda said: self._note(said.type == "error", f"console: {said.text}"))
        self.page.on("pageerror", lambda error: self._note(True, f"error: {error}"))
        self.page.on("request", lambda asked: self._note(not asked.url.startswith(LOCAL), f"request: {asked.url}"))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("[data-ready]", timeout=30_000)

    def _note(self, bad, what):
        if bad:
            self.complaints.append(what)

    def at(self):
        return int(self.page.locator(".labkit").get_attribute("data-at"))

    def wait_at(self, test):
        self.page.wait_for_function(f"() => (at => {test})(Number(document.querySelector('.labkit').dataset.at))")

    def press(self, key):
        self.page.keyboard.press(key)

    def click(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def text(self):
        return self.page.locator("[data-text]").inner_text()


LOCAL = ("file:", "data:", "blob:")


@pytest.fixture
def show(chromium, tmp_path):
    """Open the page of a trace; at the end nobody may have complained."""
    opened = []
    context = chromium.new_context(viewport={"width": 1600, "height": 1000}, offline=True)

    def _show(trace):
        write(trace, tmp_path / "page.html")
        opened.append(Opened(context, tmp_path / "page.html"))
        return opened[-1]

    yield _show
    context.close()
    assert [complaint for one in opened for complaint in one.complaints] == []


def test_play_runs_from_the_first_event_to_the_last_and_says_so(show):
    page = show(traces.SMALL)
    page.page.select_option("[data-speed]", "4")
    page.click("Play")
    page.wait_at("at > 2")
    assert page.page.locator(".labkit").get_attribute("data-playing") == "true"
    page.wait_at("at === 16")
    assert page.text() == "pread64 returns 12,288 bytes."
    assert page.page.get_by_role("button", name="Play", exact=True).is_visible()


def test_pause_stays_where_it_is(show):
    page = show(traces.scattered(64))
    page.click("Play")
    page.wait_at("at > 3")
    page.click("Pause")
    here = page.at()
    page.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.at() == here


def test_scrubbing_back_undoes_what_happened(show):
    page = show(traces.SMALL)
    pinned = page.page.locator('[data-meter="pinned_frames"]')
    page.click("To the last event")
    assert (page.at(), pinned.inner_text()) == (16, "0")
    slider = page.page.get_by_role("slider", name="Time")
    slider.fill(str(float(slider.get_attribute("min")) + 86.25 * 4))
    assert (page.at(), pinned.inner_text()) == (4, "3")
    slider.fill(slider.get_attribute("min"))
    assert (page.at(), pinned.inner_text()) == (0, "0")


def test_stepping_tells_each_event(show):
    page = show(traces.SMALL)
    page.click("To the first event")
    told = []
    for _ in range(3):
        page.click("One event on")
        told.append(page.page.locator("[data-function]").inner_text())
    assert told == ["handle_mm_fault", "ksys_pread64", "get_user_phyrs"]
    page.click("One event back")
    assert page.text().startswith("The task calls pread64: 12 KiB")


def test_everything_works_by_keyboard(show):
    page = show(traces.SMALL)
    page.page.locator("[data-scrub]").focus()
    page.press("Home")
    assert page.at() == 0
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert page.at() == 2
    page.press("ArrowLeft")
    assert page.at() == 1
    page.press("End")
    assert page.at() == 16
    page.press("Space")
    page.wait_at("at < 16")
    page.press("Space")
    assert page.page.locator(".labkit").get_attribute("data-playing") == "false"


def test_true_time_keeps_the_instant(show):
    page = show(traces.SMALL)
    page.click("To the first event")
    page.click("One event on")
    page.page.select_option("[data-scale]", "time")
    assert page.at() == 1
    slider = page.page.get_by_role("slider", name="Time")
    slider.fill(str((float(slider.get_attribute("min")) + float(slider.get_attribute("max"))) / 2))
    assert page.at() == 10


def test_pointing_lights_up_and_a_click_keeps_the_light(show):
    page = show(traces.SMALL)
    lit = "() => document.querySelector('.labkit').labkit.lit"
    box = page.page.locator("[data-stage]").bounding_box()
    page.page.mouse.move(box["x"] + 190, box["y"] + 240)
    assert page.page.evaluate(lit) == [0, 0]
    page.page.mouse.click(box["x"] + 190, box["y"] + 300)
    page.page.mouse.move(box["x"] + 190, box["y"] + 560)
    assert page.page.evaluate(lit) == [1, 1]


def test_the_table_twin_tells_the_same_and_leads_there(show):
    page = show(traces.SMALL)
    page.page.get_by_text("All 17 events as a table").click()
    rows = page.page.locator("tbody tr")
    rows.first.wait_for()
    assert rows.count() == 17
    rows.nth(3).click()
    assert page.at() == 3
    assert rows.nth(3).get_attribute("aria-current") == "step"


def test_the_picture_follows_what_the_reader_prefers(show):
    page = show(traces.SMALL)
    colour = "() => getComputedStyle(document.body).backgroundColor"
    assert page.page.evaluate(colour) == "rgb(250, 250, 247)"
    page.page.emulate_media(color_scheme="dark")
    page.page.wait_for_function(f"() => ({colour})() === 'rgb(18, 23, 30)'")


def test_markup_in_a_trace_stays_text(show):
    page = show(traces.HOSTILE)
    assert page.page.locator(".labkit img").count() == 0
    page.page.get_by_text("All 17 events as a table").click()
    page.page.locator("tbody tr").first.wait_for()
    assert "<img src=x onerror=alert(1)>" in page.page.locator("tbody").inner_text()


@pytest.mark.parametrize(
    ("trace", "says"),
    [(traces.FAILED, "One 12 KiB direct read, ended by -EFAULT"), (traces.EMPTY, "Nothing happened yet")],
    ids=["failed", "empty"],
)
def test_what_went_wrong_is_said_in_the_place_of_the_picture(show, trace, says):
    assert show(trace).page.get_by_role("heading", level=1).inner_text() == says


def test_a_huge_io_is_folded_and_says_so(show):
    page = show(traces.scattered(3000, per_request=256))
    assert page.page.locator(".folded").inner_text().startswith("3,000 pieces are folded into")
