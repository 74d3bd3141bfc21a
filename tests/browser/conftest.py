"""One Chromium for all browser tests: the one that is installed. None is ever downloaded."""

import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-quic", "--disable-sync")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", *QUIET)


@pytest.fixture(scope="session")
def chromium():
    """A headless browser; tests open contexts of their own in it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no Chromium on PATH: looked for {', '.join(NAMES)}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()
