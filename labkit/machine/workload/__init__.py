"""Many IOs of many tasks at once: what is offered, and what comes of it."""

from labkit.machine.workload.load import Load
from labkit.machine.workload.offer import offer
from labkit.machine.workload.offered import Offered

__all__ = ["Load", "Offered", "offer"]
