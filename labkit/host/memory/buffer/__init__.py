"""Memory of this process for one IO: ten kinds, which differ in how their frames lie, and what they are folios of."""

from labkit.host.memory.buffer.real import KINDS, RealBuffer, real_buffer

__all__ = ["KINDS", "RealBuffer", "real_buffer"]
