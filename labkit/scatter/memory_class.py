"""What kind of memory a range is (PHYR-19): a range is of one kind, and so is a bio (D-8)."""

from typing import Literal, NamedTuple

Kind = Literal["ram", "mmio", "foreign", "dma"]


class MemoryClass(NamedTuple):
    """RAM, the MMIO of one provider (a device's BAR), memory of another machine whose addresses are final, or DMA.

    `dma`: memory that one device, the provider, knows by its own addresses already (DMABUF-4).

    A value: two of the same kind and provider are one class; ranges of two classes never join.
    """

    kind: Kind
    provider: str = ""
    """Whose memory it is; nobody's for RAM."""


RAM = MemoryClass("ram")
