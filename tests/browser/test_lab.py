"""Notebook 01 in a real JupyterLab in headless Chromium: all cells run, the picture plays, nothing leaves."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
BAD_WORDS = ("Error displaying widget", "Click to show javascript error", "Javascript Error", "Loading widget...")
READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget, session = panel?.context?.sessionContext;
    return Boolean(session?.isReady && session.session?.kernel?.status === 'idle');
}"""
OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code')
    .flatMap(cell => cell.model.outputs.toJSON())"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_for(url: str, server: subprocess.Popen[bytes], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, "JupyterLab ended before it answered"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not answer within {seconds} s")


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A JupyterLab of its own on loopback, with a copy of the notebooks."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", home / "notebooks")
    overrides = home / "app" / "settings" / "overrides.json"
    overrides.parent.mkdir(parents=True)
    overrides.write_text(json.dumps(SETTINGS))
    port = free_port()
    places = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
        *("--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.allow_root=True"),
        *("--LabApp.expose_app_in_browser=True", f"--LabApp.user_settings_dir={home / 'user'}"),
        *(f"--LabApp.app_settings_dir={overrides.parent}", f"--ServerApp.root_dir={home / 'notebooks'}"),
    ]
    with (home / "log").open("wb") as log:
        environment = {**os.environ, **places, "IPYTHONDIR": str(home / "ipython")}
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/api", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(20)


@pytest.fixture
def page(chromium):
    """A page that notes every console error, page error and request beyond loopback; the test ends by looking."""
    context = chromium.new_context(viewport={"width": 1600, "height": 1100})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if leaves(request.url) else None)
    page.wrong = wrong
    yield page
    context.close()


def leaves(url: str) -> bool:
    return urlparse(url).scheme not in {"data", "blob", "about"} and urlparse(url).hostname != "127.0.0.1"


def run_all(page, lab: str, name: str) -> list[dict]:
    """Open a notebook, run all of it, and return its outputs."""
    page.goto(f"{lab}/lab/tree/{name}?reset")
    page.wait_for_function(READY, timeout=60_000)
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(READY, timeout=60_000)
    return page.evaluate(OUTPUTS)


def explorer(page, index: int):
    """Return the n-th Explorer of the notebook, scrolled into view and drawn."""
    page.wait_for_function(f"() => document.querySelectorAll('.labkit[data-ready]').length > {index}", timeout=60_000)
    root = page.locator(".labkit[data-ready]").nth(index)
    root.scroll_into_view_if_needed()
    return root


def at(root) -> int:
    return int(root.get_attribute("data-at"))


def test_notebook_01_runs_plays_and_scrubs_back(page, lab):
    outputs = run_all(page, lab, "01-one-read-end-to-end.ipynb")
    assert not [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"]
    assert not [word for word in BAD_WORDS if word in json.dumps(outputs)]
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


def test_the_cursor_comes_back_to_python(page, lab):
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


def test_keys_pressed_in_the_picture_insert_no_cell(page, lab):
    run_all(page, lab, "00-start-here.ipynb")
    count = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    cells, root = page.evaluate(count), explorer(page, 0)
    root.locator("[data-scrub]").focus()
    for key in ("b", "a", "d", "d", "ArrowRight"):
        page.keyboard.press(key)
    assert page.evaluate(count) == cells
    assert page.wrong == []
