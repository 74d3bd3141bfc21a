"""Make pictures of the Explorer for the README: python tests/browser/screenshots.py OUTDIR [TRACE].

Without a trace file it runs one 1 MiB read of 64 KiB folios on the simulated drive.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from labkit.cli.export import write
from labkit.machine import Machine
from labkit.trace.store import load
from labkit.trace.trace import Trace

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def example() -> Trace:
    """Return the trace of a read, in mid-size folios on an aged machine."""
    machine = Machine(ram="4 GiB", system="phyr", fragmentation=0.6, seed=11)
    task = machine.task()
    fd = task.open("/dev/nvme0n1")
    task.pread(fd, task.mmap("1 MiB", folio="64 KiB"), "1 MiB")
    return machine.trace


def main() -> None:
    """Write explorer-light.png and explorer-dark.png, 1600 x 1000, at the moment that the picture opens at."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    trace = load(Path(sys.argv[2])) if len(sys.argv) > 2 else example()
    chromium = next(found for name in NAMES if (found := shutil.which(name)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write(trace, Path(folder) / "page.html")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 1600, "height": 1000}, color_scheme=scheme)
            page.goto((Path(folder) / "page.html").as_uri())
            page.wait_for_selector("[data-ready]")
            page.screenshot(path=out / f"explorer-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
