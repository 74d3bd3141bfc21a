"""What the work of the host costs in time: a table in data/, where every number has its origin."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_type_hints

from labkit.hardware.table import numbers


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
    sg: int
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
    copy_page: int
    swiotlb: int

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the table at `path`. Raises BadInput, as `numbers` does."""
        return cls(**numbers(path, "ns", get_type_hints(cls)))
