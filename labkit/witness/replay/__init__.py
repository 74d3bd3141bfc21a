"""A capture becomes a trace: what a kernel was seen to do, as records of the lab, for every view of it."""

from labkit.witness.replay.story import story

__all__ = ["story"]
