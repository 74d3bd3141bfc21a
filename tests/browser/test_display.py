"""Objects of the lab in a real JupyterLab: a sheet each, and of a trace the Explorer."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELLS = (
    "%load_ext labkit.widgets.display\nfrom labkit.machine import Machine",
    "m = Machine(seed=7)\ntask = m.task()\nbuf = task.mmap('64 KiB')",
    "n = task.pread(task.open('/dev/nvme0n1', 'O_RDONLY|O_DIRECT'), buf, '64 KiB')",
    "m",
    "task.buffer(buf)",
    "m.snapshot()",
    "m.trace",
)
SAVE = """cells => window.jupyterapp.serviceManager.contents.save('shown.ipynb', {type: 'notebook', format: 'json',
    content: {nbformat: 4, nbformat_minor: 5, metadata: {kernelspec: {name: 'python3', display_name: 'Python 3'}},
    cells: cells.map((source, i) => ({
        cell_type: 'code', id: 'c' + i, source, outputs: [], execution_count: null, metadata: {}}))}})"""


def test_objects_show_themselves_once_the_extension_is_loaded(page, lab, run_all):
    page.goto(f"{lab}/lab?reset")
    page.wait_for_function("() => window.jupyterapp?.serviceManager.isReady")
    page.evaluate(SAVE, list(CELLS))
    outputs = run_all(page, lab, "shown.ipynb")
    page.wait_for_selector(".labkit[data-ready]")
    assert page.locator(".labkit-sheet .title").all_inner_texts() == [
        "A machine: system phyr, device nvme0n1, 4 GiB of memory",
        "A buffer of 64 KiB: anon 4 KiB",
        "The machine at 79.89 µs",
    ]
    assert page.locator(".labkit-sheet .strip i").count() == 11
    assert len(outputs) == 4
    assert page.wrong == []
