"""Jobs become IOs a second: fio, where it is installed, on a device or a file."""

import errno
import json
import shutil
import subprocess
from typing import Any, Literal, NamedTuple

from labkit.errors import NotAllowed, SyscallError

_GRACE = 20.0
"""Seconds that fio may take to begin and to end."""


class FioJob(NamedTuple):
    """Random direct IO of `nbytes` each, `depth` at a time: psync has 1; `fixed`: buffers and files are registered."""

    engine: Literal["psync", "io_uring"]
    nbytes: int
    depth: int = 1
    write: bool = False
    fixed: bool = False


def installed() -> str | None:
    """Return where fio is, None for nowhere."""
    return shutil.which("fio")


def version() -> str:
    """Return what fio says that it is: 'fio-3.33'. Raises NotAllowed where there is none."""
    return _run("--version").strip()


def iops(job: FioJob, path: str, seconds: int) -> float:
    """Return the IOs a second that fio does in `seconds` on the file at `path`.

    Raises NotAllowed where it is not installed, SyscallError EIO for what it could not do.
    """
    options = {
        "name": "labkit", "filename": path, "direct": 1, "rw": "randwrite" if job.write else "randread",
        "ioengine": job.engine, "bs": job.nbytes, "iodepth": job.depth, "norandommap": 1, "randrepeat": 1,
        "time_based": 1, "runtime": seconds, "output-format": "json",
    }  # fmt: skip
    if job.fixed:
        options |= {"fixedbufs": 1, "registerfiles": 1}
    out = _run(*(f"--{name}={value}" for name, value in options.items()), seconds=seconds)
    try:
        told: dict[str, Any] = json.loads(out)
        return float(told["jobs"][0]["write" if job.write else "read"]["iops"])
    except (ValueError, LookupError) as bad:
        raise SyscallError("fio", path, "leaves no report", errno.EIO) from bad


def _run(*options: str, seconds: int = 0) -> str:
    """Return what fio prints. Raises NotAllowed, and SyscallError EIO with the last line of what it says is wrong."""
    found = installed()
    if found is None:
        raise NotAllowed("fio", "fio", "is not installed: apt install fio, or leave this comparison out", errno.ENOENT)
    try:
        done = subprocess.run(  # noqa: S603 - the program on PATH that the user means
            [found, *options], capture_output=True, text=True, timeout=seconds + _GRACE, check=False
        )
    except subprocess.TimeoutExpired as bad:
        raise SyscallError("fio", options[0], f"takes more than {seconds + _GRACE:.0f} s", errno.ETIMEDOUT) from bad
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise SyscallError("fio", options[0], f"fails: {said[-1]}", errno.EIO)
    return done.stdout
