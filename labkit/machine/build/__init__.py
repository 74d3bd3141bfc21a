"""The device side of a machine, built bottom-up: medium, bus, device, driver, queue limits."""

from labkit.machine.build.board import DATA, Board, Built
from labkit.machine.build.devices import BUILD
from labkit.machine.build.overridden import overridden

__all__ = ["BUILD", "DATA", "Board", "Built", "overridden"]
