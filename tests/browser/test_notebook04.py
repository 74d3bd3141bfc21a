"""Notebook 04 in a real JupyterLab: it runs, its pictures show and move by key, guesses are checked."""

import json

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAME = "04-pins-who-holds-this-page.ipynb"
ASK = """async (code) => {
    const kernel = window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
    const future = kernel.requestExecute({code});
    let text = '';
    future.onIOPub = message => { if (message.content.text) text += message.content.text; };
    await future.done;
    return text;
}"""


def picture(page, index):
    """Return the n-th picture of pins, scrolled into view and drawn."""
    page.wait_for_function(f"() => document.querySelectorAll('.labkit.scene[data-ready]').length > {index}")
    root = page.locator(".labkit.scene[data-ready]").nth(index)
    root.scroll_into_view_if_needed()
    return root


def drawn(root):
    """Return whether the canvas of a picture has more than one colour."""
    return root.locator("[data-stage]").evaluate("""stage => {
        const roots = [stage], all = [];
        while (roots.length) for (const node of roots.pop().querySelectorAll('*')) {
            if (node.shadowRoot) roots.push(node.shadowRoot);
            if (node instanceof HTMLCanvasElement && node.width) all.push(node);
        }
        return all.some(canvas => {
            const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            return new Set(new Uint32Array(pixels.buffer)).size > 8;
        });
    }""")


def test_notebook_04_runs_shows_who_holds_and_moves_by_key(page, lab, run_all):
    run_all(page, lab, NAME)
    root = picture(page, 0)
    assert any(drawn(root) or page.wait_for_timeout(250) for _ in range(40))
    assert "4 MiB" in root.locator("h1").inner_text()
    root.locator("[data-scrub]").focus()
    page.keyboard.press("Home")
    first = root.locator("[data-text]").inner_text()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert "pinned" in root.locator("[data-text]").inner_text() != first
    assert page.wrong == []


def test_the_wrong_bytes_are_spelled_out(page, lab, run_all):
    run_all(page, lab, NAME)
    root = picture(page, 2)
    assert "one hazard, one broken invariant" in root.locator("p").first.inner_text()
    root.locator("[data-scrub]").focus()
    page.keyboard.press("End")
    assert root.locator("[data-bytes]").is_visible()
    spelled = "".join(root.locator("[data-bytes]").inner_text().split())
    assert "736f6d65" in spelled  # b"some", of somebody else's bytes
    assert page.wrong == []


def test_a_guess_is_checked_in_the_notebook(page, lab, run_all):
    outputs = run_all(page, lab, NAME)
    assert "Not 4: 3073." in json.dumps(outputs)
    told = page.evaluate(ASK, "print(REFCOUNT.check(page, 3073), MUNMAP.check(runs, 'two'))")
    assert told == "Yes: 3073. The answer is a whole number, and 'two' is none.\n"
    assert "No guess yet" in json.dumps(outputs)
    assert page.wrong == []
