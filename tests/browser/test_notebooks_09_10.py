"""Notebooks 06, 09 and 10 in a real JupyterLab: each runs, every picture of it is drawn, and the keys go through it."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PICTURES = {
    "06-memory-without-struct-page.ipynb": 3,
    "09-dma-direct-iommu-bounce.ipynb": 6,
    "10-devices-queues-and-faults.ipynb": 4,
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_notebook_of_dma_and_devices_runs_and_draws_all_its_pictures(page, lab, run_all, name):
    run_all(page, lab, name)
    page.wait_for_function(
        "n => document.querySelectorAll('.labkit.scene[data-ready]').length === n", arg=PICTURES[name]
    )
    assert page.locator(".labkit.scene[data-ready] [data-stage] .bk-Figure").count() == PICTURES[name]
    for root in page.locator(".labkit.scene[data-ready]").all():
        root.scroll_into_view_if_needed()
        root.locator("[data-scrub]").focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        assert root.get_attribute("data-at") == "1"
        page.keyboard.press("End")
        assert root.locator("[data-text]").inner_text()
    assert page.wrong == []
