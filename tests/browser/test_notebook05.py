"""Notebook 05 in a real JupyterLab: it runs, three systems are drawn on one axis, and it moves without the kernel."""

import json

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAME = "05-one-io-three-currencies.ipynb"
COLOURS = """stage => {
    const roots = [stage], all = [];
    while (roots.length) for (const node of roots.pop().querySelectorAll('*')) {
        if (node.shadowRoot) roots.push(node.shadowRoot);
        if (node instanceof HTMLCanvasElement && node.width) all.push(node);
    }
    return Math.max(0, ...all.map(canvas => {
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return new Set(new Uint32Array(pixels.buffer)).size;
    }));
}"""
SHUTDOWN = "() => window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()"


def picture(page, index):
    """Return the n-th picture with steps, scrolled into view and drawn."""
    page.wait_for_function(f"() => document.querySelectorAll('.labkit.scene[data-ready]').length > {index}")
    root = page.locator(".labkit.scene[data-ready]").nth(index)
    root.scroll_into_view_if_needed()
    assert any(root.locator("[data-stage]").evaluate(COLOURS) > 8 or page.wait_for_timeout(250) for _ in range(40)), (
        "the picture stays empty"
    )
    return root


def test_notebook_05_runs_and_tells_the_three_systems_apart(page, lab, run_all):
    outputs = run_all(page, lab, NAME)
    root = picture(page, 0)
    assert root.locator("h1").inner_text().startswith("Page: ")
    root.locator("summary").click()
    systems = set(root.locator("tbody tr td:nth-child(2)").all_inner_texts())
    assert systems == {"page", "phyr", "unified"}
    assert "Not 1: 64." in json.dumps(outputs)
    assert sum("svg" in out.get("data", {}).get("text/html", "") for out in map(dict, outputs)) == 3
    assert page.wrong == []


def test_play_and_scrub_go_on_without_a_kernel(page, lab, run_all):
    run_all(page, lab, NAME)
    root = picture(page, 0)
    page.evaluate(SHUTDOWN)
    scrub = root.locator("[data-scrub]")
    scrub.focus()
    page.keyboard.press("Home")
    first = root.locator("[data-text]").inner_text()
    assert "enters the block layer" in first
    page.keyboard.press("End")
    assert root.locator("[data-text]").inner_text() != first
    last = int(scrub.get_attribute("max"))
    scrub.fill(str(last - 3))
    root.locator("[data-speed]").select_option("4")
    root.locator("[data-play]").click()
    page.wait_for_function("() => document.querySelector('.labkit.scene').dataset.playing === 'false'")
    assert int(root.get_attribute("data-at")) == last
