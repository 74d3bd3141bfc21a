"""What a real kernel did, kept for machines that may not ask one: python -m labkit.witness.record data/recordings."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit.host.release import kernel_version
from labkit.machine import Machine
from labkit.trace.store import save
from labkit.witness import manifest
from labkit.witness.demos import DEMOS

RECORDINGS: dict[str, dict[str, Any]] = {
    "first-io-loop": {"device": "loop", "size": "64 KiB", "fragmentation": 1, "seed": 7},
}
"""The runs that the notebooks show, by name."""


def record(directory: Path) -> list[Path]:
    """Run each of RECORDINGS on a loop device, and every demonstration; keep them in `directory`, with a manifest.

    Raises NotAllowed where this machine does not let one of them be, SyscallError. The kernel's version goes into the
    files, the machine's name does not.
    """
    release = kernel_version()
    paths = _runs(directory, {"date": datetime.now(UTC).date().isoformat(), "kernel": release})
    return [*paths, *(demo.record(directory, release) for demo in DEMOS.values()), manifest.write(directory)]


def _runs(directory: Path, made: dict[str, str]) -> list[Path]:
    """Run each of RECORDINGS, and keep its trace with what `made` it."""
    paths = []
    for name, knobs in RECORDINGS.items():
        with Machine(**knobs) as machine:
            machine.run()
            trace = replace(machine.trace, meta={**machine.trace.meta, "recorded": made})
        paths.append(directory / f"{name}.json.gz")
        save(trace, paths[-1])
    return paths


if __name__ == "__main__":
    for path in record(Path(sys.argv[1])):
        print(path)  # noqa: T201
