"""What a real kernel did, kept for machines that may not ask one: python -m labkit.witness.record data/recordings."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit.host.probe import probe
from labkit.machine import Machine
from labkit.trace.store import save
from labkit.witness import memory

RECORDINGS: dict[str, dict[str, Any]] = {
    "first-io-loop": {"device": "loop", "size": "64 KiB", "fragmentation": 1, "seed": 7},
}
"""The runs that the notebooks show, by name."""


def record(directory: Path) -> list[Path]:
    """Run each of RECORDINGS on a loop device of this machine, and keep its trace in `directory`.

    Raises NotAllowed where there is no loop device. The kernel's version goes into the file, the machine's name does
    not.
    """
    made = {"date": datetime.now(UTC).date().isoformat(), "kernel": probe()["kernel"].value.split("-")[0]}
    paths = []
    for name, knobs in RECORDINGS.items():
        with Machine(**knobs) as machine:
            machine.run()
            trace = replace(machine.trace, meta={**machine.trace.meta, "recorded": made})
        paths.append(directory / f"{name}.json.gz")
        save(trace, paths[-1])
    return paths


if __name__ == "__main__":
    for path in (memory.record(Path(sys.argv[1])), *record(Path(sys.argv[1]))):
        print(path)  # noqa: T201
