"""Notebooks 07 and 08 in a real JupyterLab: each runs, and every picture of it is drawn."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PICTURES = {"07-files-holes-and-the-page-cache.ipynb": 5, "08-split-and-merge.ipynb": 5}


@pytest.mark.parametrize("name", PICTURES)
def test_a_notebook_of_the_block_layer_runs_and_draws_all_its_pictures(page, lab, run_all, name):
    run_all(page, lab, name)
    scenes = ".labkit.scene[data-ready] [data-stage] .bk-Figure"
    page.wait_for_function(
        "n => document.querySelectorAll('.labkit.scene[data-ready]').length === n", arg=PICTURES[name]
    )
    assert page.locator(scenes).count() == PICTURES[name]
    for root in page.locator(".labkit.scene[data-ready]").all():
        root.scroll_into_view_if_needed()
        root.locator("[data-scrub]").focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        assert root.get_attribute("data-at") == "1"
    assert page.wrong == []
