"""Demonstrations on the kernel under our feet, each with a recording for machines where it may not be asked."""

from labkit.witness.demos import (
    collapse,
    compaction,
    fork_copies,
    frames_through_loop,
    memory_kinds,
    munmap_registered,
    registered_pins,
    split_under_pin,
)
from labkit.witness.demos.demo import Demo, Shown

__all__ = ["DEMOS", "Demo", "Shown"]

DEMOS: dict[str, Demo] = {
    room.DEMO.name: room.DEMO
    for room in (
        memory_kinds, registered_pins, fork_copies, collapse, compaction, split_under_pin, munmap_registered,
        frames_through_loop,
    )
}  # fmt: skip
"""Every demonstration by its name, in the order in which they are told."""
