"""Peer to peer: how one PCI device reaches the memory of another, and by which address (pci/p2pdma.c)."""

from enum import Enum
from typing import Protocol

from labkit.hardware.pcie import Node, Pcie, acs_count, common_bridge


class MapType(Enum):
    """enum pci_p2pdma_map_type (P2P-1)."""

    NONE = "none"
    NOT_SUPPORTED = "not supported"
    BUS_ADDR = "bus address"
    THRU_HOST_BRIDGE = "through the host bridge"


class P2pDma(Protocol):
    """What a driver asks of the tree that its device stands in."""

    def map_type(self, owner: str) -> MapType:
        """Return how this device reaches memory of `owner`, the name of a provider (P2P-2); cached (P2P-1)."""

    def bus_offset(self, owner: str) -> int:
        """Return what is added to a physical address of `owner` to get that of the bus (P2P-4)."""


class PciP2pDma:
    """The tree, asked in the name of one client."""

    def __init__(self, tree: Pcie) -> None:
        """Answer for the client of `tree`."""
        self._tree = tree
        self._known: dict[Node, MapType] = {}

    def map_type(self, owner: str) -> MapType:
        """Return how the client reaches memory of `owner`; NOT_SUPPORTED if that is no PCI device (P2P-6)."""
        node = self._tree.find(owner)
        if node is None or node.bar is None:
            return MapType.NOT_SUPPORTED
        if node not in self._known:
            self._known = {other: known for other, known in self._known.items() if other in self._tree.bars}
            self._known[node] = self._calc(node)
        return self._known[node]

    def bus_offset(self, owner: str) -> int:
        """Return the bus address of the BAR of `owner` less its physical address (P2P-4); 0 without one."""
        node = self._tree.find(owner)
        return node.bar.offset if node is not None and node.bar is not None else 0

    def _calc(self, provider: Node) -> MapType:
        """Climb from both to their first common bridge, and count those on the way that redirect (P2P-2)."""
        client = self._tree.client
        if provider is client:
            return MapType.BUS_ADDR
        if common_bridge(client, provider) is not None and not acs_count(client, provider):
            return MapType.BUS_ADDR
        return MapType.THRU_HOST_BRIDGE if self._tree.forwarded(provider) else MapType.NOT_SUPPORTED
