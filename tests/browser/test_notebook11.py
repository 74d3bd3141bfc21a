"""Notebook 11 in a real JupyterLab: on this kernel or on recordings it runs, and all its pictures are drawn."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAME = "11-the-real-kernel.ipynb"


def test_the_notebook_of_the_real_kernel_runs_and_draws_all_its_pictures(page, lab, run_all):
    outputs = run_all(page, lab, NAME)
    page.wait_for_function("() => document.querySelectorAll('.labkit.scene[data-ready]').length === 4")
    assert page.locator(".labkit.scene[data-ready] [data-stage] .bk-Figure").count() == 4
    assert page.locator(".labkit[data-ready]:not(.scene)").count() == 2
    for root in page.locator(".labkit.scene[data-ready]").all():
        root.scroll_into_view_if_needed()
        root.locator("[data-scrub]").focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        assert root.get_attribute("data-at") == "1"
        page.keyboard.press("End")
        assert root.locator("[data-text]").inner_text()
    told = [
        line for out in outputs for line in out.get("text", "").splitlines() if line.startswith("Captured just now")
    ]
    shown = [line for out in outputs for line in out.get("text", "").splitlines() if "Shown instead" in line]
    assert len(told) + len(shown) == 5  # four IOs and the fifty, and each says which it is
    assert page.wrong == []
