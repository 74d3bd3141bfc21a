"""Notebook 01 in a real JupyterLab in headless Chromium: all cells run, the picture plays, nothing leaves."""

import json

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def explorer(page, index: int):
    """Return the n-th Explorer of the notebook, scrolled into view and drawn."""
    page.wait_for_function(f"() => document.querySelectorAll('.labkit[data-ready]').length > {index}", timeout=60_000)
    root = page.locator(".labkit[data-ready]").nth(index)
    root.scroll_into_view_if_needed()
    return root


def at(root) -> int:
    return int(root.get_attribute("data-at"))


def test_notebook_01_runs_plays_and_scrubs_back(page, lab, run_all):
    run_all(page, lab, "01-one-read-end-to-end.ipynb")
    root = explorer(page, 0)
    root.locator("[data-do=first]").click()
    assert at(root) == 0
    root.locator("[data-play]").click()
    page.wait_for_function("root => Number(root.dataset.at) >= 3", arg=root.element_handle(), timeout=20_000)
    assert root.get_attribute("data-playing") == "true"
    root.locator("[data-play]").click()
    before = at(root)
    root.locator("[data-scrub]").focus()
    page.keyboard.press("ArrowLeft")  # to the beginning of the step that was under way
    page.keyboard.press("ArrowLeft")
    assert at(root) == before - 1
    page.keyboard.press("End")
    assert "returns 65,536 bytes" in root.locator("[data-text]").inner_text()
    root.locator("[data-scrub]").evaluate("bar => { bar.value = bar.min; bar.dispatchEvent(new Event('input')); }")
    assert at(root) == 0
    assert page.locator(".jp-Notebook").inner_text().find("Error displaying widget") == -1
    assert page.wrong == []


def test_the_cursor_comes_back_to_python(page, lab, run_all):
    run_all(page, lab, "00-start-here.ipynb")
    root = explorer(page, 0)
    root.locator("[data-do=end]").click()
    page.wait_for_timeout(400)  # the trait is sent 150 ms after the last move, so that scrubbing never waits for Python
    seen = page.evaluate("""async () => {
        const kernel = window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
        const code = 'from ipywidgets.widgets.widget import _instances as all\\n'
            + 'print([w.t for w in all.values() if hasattr(w, "selection")])';
        const future = kernel.requestExecute({code});
        let text = '';
        future.onIOPub = message => { if (message.content.text) text += message.content.text; };
        await future.done;
        return text;
    }""")
    assert json.loads(seen)[-1] > 100_000
    assert page.wrong == []


def test_keys_pressed_in_the_picture_insert_no_cell(page, lab, run_all):
    run_all(page, lab, "00-start-here.ipynb")
    count = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    cells, root = page.evaluate(count), explorer(page, 0)
    root.locator("[data-scrub]").focus()
    for key in ("b", "a", "d", "d", "ArrowRight"):
        page.keyboard.press(key)
    assert page.evaluate(count) == cells
    assert page.wrong == []
