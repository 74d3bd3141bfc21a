"""The kernel's own bios become rows: a small program that the kernel runs at each of them, made and loaded here."""

from labkit.host.watch.bpf.watch import BioWatch

__all__ = ["BioWatch"]
