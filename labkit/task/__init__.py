"""A program on the machine: memory that it maps, files that it opens, and system calls that it waits for."""

from labkit.task.task import KERNEL, MAX_BYTES, Kinds, Openable, Task, Volume

__all__ = ["KERNEL", "MAX_BYTES", "Kinds", "Openable", "Task", "Volume"]
