"""What the work of the host costs in time: a table in data/, where every number has its origin."""

import errno
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from labkit.errors import BadInput


@dataclass(frozen=True, slots=True)
class Cpu:
    """Nanoseconds for one piece of work each; the table in data/cpu.toml says what and where from."""

    syscall: int
    walk: int
    pin: int
    unpin: int
    bio_alloc: int
    vec: int
    split: int
    getrq: int
    dma_map: int
    iova_alloc: int
    iopte: int
    iotlb_sync: int
    lazy_unmap: int
    sqe: int
    prp: int
    doorbell: int
    irq: int
    wakeup: int

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the table at `path`. Raises BadInput for a number that is missing, negative or without an origin."""
        table = tomllib.loads(path.read_text())
        for name in (field.name for field in fields(cls)):
            row = table.get(name)
            if not (isinstance(row, dict) and type(row.get("ns")) is int and row["ns"] >= 0 and row.get("origin")):
                raise BadInput("cpu", f"{path.name}: {name}", "needs whole ns >= 0 and an origin", errno.EINVAL)
        return cls(**{field.name: table[field.name]["ns"] for field in fields(cls)})
