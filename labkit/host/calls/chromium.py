"""A page becomes a picture: Chromium, where it is installed, draws it without a window and with no network."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path

from labkit.errors import NotAllowed, SyscallError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-quic",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000",
)  # fmt: skip
"""No sandbox: it is not to be had as root, and the page is labkit's own. Time is virtual: nothing waits for a clock."""
_SECONDS = 90.0
_PREFIX = "labkit-page-"
_FIGURE, _END = '<pre id="figure">', "</pre>"


def screenshot(page: str, width: int, height: int) -> bytes:
    """Return a PNG of the HTML text `page` in a window of `width` x `height` pixels.

    Raises NotAllowed where there is no Chromium, SyscallError EIO or ETIMEDOUT where it draws nothing.
    """
    with _place() as place:
        out = place / "page.png"
        _run(place, page, f"--screenshot={out}", f"--window-size={width},{height}")
        if not out.is_file():
            raise SyscallError("chromium", "the page", "was not drawn", errno.EIO)
        return out.read_bytes()


def figure(page: str, width: int, height: int) -> str:
    """Return the text that the script of `page` leaves in its element `figure`. Raises as `screenshot`."""
    with _place() as place:
        dom = _run(place, page, "--dump-dom", f"--window-size={width},{height}")
    _, found, rest = dom.partition(_FIGURE)
    if not found:
        raise SyscallError("chromium", "the page", "leaves no figure", errno.EIO)
    return unescape(rest.partition(_END)[0])


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    """Make a directory for one call, which goes with it; those that killed runs left go first."""
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(fd)


def _sweep(base: Path) -> None:
    """Remove directories of this user in `base` whose owner does not live: nobody holds the lock on them."""
    for place in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_uid == os.geteuid():
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(place, ignore_errors=True)
            finally:
                os.close(fd)


def _run(place: Path, page: str, *options: str) -> str:
    """Open `page` in Chromium, with `place` for all that it writes; return what it prints."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        rule = "is not installed: apt-get install chromium, or export .html and take the picture from a browser"
        raise NotAllowed("chromium", "a picture", rule, errno.ENOENT)
    file = place / "page.html"
    file.write_text(page, encoding="utf-8")
    command = [program, *_FLAGS, f"--user-data-dir={place / 'user'}", *options, file.as_uri()]
    with subprocess.Popen(  # noqa: S603 - the browser on PATH, and a page of labkit's own
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as child:
        try:
            out, _ = child.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired as bad:
            raise SyscallError("chromium", "the page", f"takes more than {_SECONDS:.0f} s", errno.ETIMEDOUT) from bad
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if child.returncode:
        raise SyscallError("chromium", "the page", f"is not drawn: exit code {child.returncode}", errno.EIO)
    return out
