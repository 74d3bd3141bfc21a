"""One Chromium for all browser tests, the one that is installed, and one JupyterLab. None is ever downloaded."""

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

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # a cell that is out of sight stays as it is
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


@pytest.fixture(scope="session")
def run_all():
    """Open a notebook, run all of it, and return its outputs; none may be an error or a blank widget."""
    return _run_all


def _run_all(page, lab: str, name: str) -> list[dict]:
    page.goto(f"{lab}/lab/tree/{name}?reset")
    page.wait_for_function(READY, timeout=60_000)
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(READY, timeout=60_000)
    outputs = page.evaluate(OUTPUTS)
    assert not [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"]
    assert not [word for word in BAD_WORDS if word in json.dumps(outputs)]
    return outputs
