"""The tree that a PCI device stands in: who is below which bridge, whose memory is where, and what reaches it."""

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from labkit.errors import BadInput, InvariantError
from labkit.hardware.device import Bus, BusFault
from labkit.hardware.gpu import Bar as Speed
from labkit.hardware.iommu import Fills, Iommu
from labkit.hardware.ram import RAM

Kind = Literal["root complex", "root port", "upstream port", "downstream port", "endpoint"]
Route = Literal["switch", "bridge", "none"]


class Bar(NamedTuple):
    """Memory of an endpoint: `nbytes` at physical `start`, which devices on the bus know as `start` + `offset`."""

    start: int
    nbytes: int
    offset: int = 0


class HostBridge(NamedTuple):
    """Whose root complex it is, and whether it passes requests from one port on to another (P2P-3)."""

    name: str
    listed: bool
    """Whether the kernel knows that it does: AMD from family 0x17 on, and a list."""
    same_only: bool = False
    """Whether it does between its own ports alone."""


ZEN = HostBridge("AMD EPYC (family 0x17)", True)
XEON_E5 = HostBridge("Intel Xeon E5 (8086:2f00)", True, True)
Q35 = HostBridge("Intel Q35 (8086:29c0)", False)


@dataclass(eq=False, slots=True)
class Node:
    """One box of the tree."""

    name: str
    kind: Kind
    parent: "Node | None" = None
    acs: bool = False
    """Whether it sends what goes from device to device up to the root (ACS: request or completion redirect)."""
    host: HostBridge | None = None
    """Of a root complex."""
    bar: Bar | None = None

    def bridges(self) -> Iterator["Node"]:
        """Yield the bridges above, from the nearest up; a root complex is none."""
        node = self.parent
        while node is not None and node.kind != "root complex":
            yield node
            node = node.parent

    def root(self) -> "Node":
        """Return the top of its tree."""
        node = self
        while node.parent is not None:
            node = node.parent
        return node


class Pcie:
    """The tree of one machine, with one block device, the `client`, and peers that come and go."""

    def __init__(self, client: Node, above: Sequence[Node], *, acs: bool = False) -> None:
        """`above`: what is above `client`, the root complex first; the last but one gets the ports of the peers.

        `acs`: whether those ports redirect, as the client's own says of itself.
        """
        self.client, self._acs = client, acs
        self._nodes = [*above, client]
        self._parent = above[-2]
        self.watchers: list[Callable[[int, int], None]] = []
        """Who is told of each new BAR: its first address on the bus, and its bytes."""

    @classmethod
    def of(cls, route: Route, *, acs: bool = False, host: HostBridge | None = None) -> "Pcie":
        """Return a machine whose peers stand below the same switch, behind a host bridge, or behind one not listed.

        `acs`: the ports of the switch, or of the root, redirect. `host`: another than the route's own (P2P-3).
        Raises BadInput for another route.
        """
        if route not in {"switch", "bridge", "none"}:
            raise BadInput("pcie", f"route={route!r}", "is not one of switch, bridge, none", errno.EINVAL)
        top = Node("host bridge", "root complex", host=host or (Q35 if route == "none" else ZEN))
        port = Node("root port 0", "root port", top, acs and route != "switch")
        above = [top, port]
        if route == "switch":
            switch = Node("switch", "upstream port", port)
            above += [switch, Node("switch port 0", "downstream port", switch, acs)]
        return cls(Node("nvme", "endpoint", above[-1]), above, acs=acs)

    def _port(self) -> Node:
        """Add the next free port beside the client's."""
        switch = self._parent.kind == "upstream port"
        taken = {node.name for node in self._nodes}
        names = (f"{'switch' if switch else 'root'} port {number}" for number in range(len(taken) + 1))
        name = next(name for name in names if name not in taken)
        node = Node(name, "downstream port" if switch else "root port", self._parent, self._acs)
        self._nodes.append(node)
        return node

    def plug(self, name: str, start: int, nbytes: int, offset: int = 0, below: Node | None = None) -> Node:
        """Plug device `name` in, `below` a port of its own; its BAR is `nbytes` at physical `start`. Return it.

        The client's own name gives the client a BAR (a controller memory buffer). Raises BadInput EEXIST.
        """
        node = self.client if name == self.client.name else Node(name, "endpoint")
        if node.bar is not None or (node is not self.client and self.find(name) is not None):
            raise BadInput("pcie", name, "is plugged in already", errno.EEXIST)
        if node is not self.client:
            node.parent = below or self._port()
            self._nodes.append(node)
        node.bar = Bar(start, nbytes, offset)
        for tell in self.watchers:
            tell(start + offset, nbytes)
        return node

    def unplug(self, name: str) -> None:
        """Take `name` out, with the port that was made for it. Raises BadInput ENOENT."""
        node = self.find(name)
        if node is None or node.bar is None:
            raise BadInput("pcie", name, "is not plugged in", errno.ENOENT)
        node.bar = None
        if node is not self.client:
            self._nodes.remove(node)
            if node.parent is not None and not any(other.parent is node.parent for other in self._nodes):
                self._nodes.remove(node.parent)

    def find(self, name: str) -> Node | None:
        """Return the endpoint `name`; None without one."""
        return next((node for node in self._nodes if node.name == name and node.kind == "endpoint"), None)

    @property
    def bars(self) -> list[Node]:
        """The endpoints that have memory."""
        return [node for node in self._nodes if node.bar is not None]

    def switched(self, peer: Node) -> bool:
        """Return whether a request of the client reaches `peer` without going up to the root: it may be itself."""
        together = common_bridge(self.client, peer) is not None
        return peer is self.client or (together and not acs_count(self.client, peer))

    def forwarded(self, peer: Node) -> bool:
        """Return whether the host bridges pass a request of the client on to `peer` (P2P-3)."""
        mine, other = self.client.root(), peer.root()
        hosts = [root.host for root in {mine, other}]
        return all(host is not None and host.listed and (mine is other or not host.same_only) for host in hosts)

    def route(self, peer: Node) -> str:
        """Return by what the client reaches `peer`, in one word: own, switch, bridge or none."""
        if self.switched(peer):
            return "own" if peer is self.client else "switch"
        return "bridge" if self.forwarded(peer) else "none"

    def told(self) -> dict[str, Any]:
        """Return the tree as JSON has it: `nodes` from the root down, `client`, `host`, and `routes` to the peers."""
        host = self.client.root().host
        return {
            "client": self.client.name,
            "host": {"name": host.name, "listed": host.listed} if host else None,
            "nodes": [
                {
                    "name": node.name, "parent": node.parent.name if node.parent else None, "kind": node.kind,
                    "acs": node.acs, "bar": list(node.bar) if node.bar else None,
                }
                for node in self._nodes
            ],
            "routes": {node.name: self.route(node) for node in self.bars},
        }  # fmt: skip


def common_bridge(a: Node, b: Node) -> Node | None:
    """Return the lowest bridge that both are below; None where only a root complex joins them, or nothing."""
    mine = list(a.bridges())
    return next((bridge for bridge in b.bridges() if bridge in mine), None)


def acs_count(a: Node, b: Node) -> int:
    """Return how many bridges redirect on the way from `a` to `b`, below their common one or up to the root."""
    common = common_bridge(a, b)
    count = 0
    for end in (a, b):
        for bridge in end.bridges():
            if bridge is common:
                break
            count += bridge.acs
    return count


class PcieBus:
    """The bus as the client sees it: a peer's memory through the switch, everything else up to the root."""

    def __init__(
        self, tree: Pcie, up: Bus, ram: RAM, mask: int, iommu: Iommu | None = None, speed: Speed | None = None
    ) -> None:
        """`up`: the IOMMU, or memory; `ram` has the bytes of the BARs; `mask`: the greatest address that fits.

        `speed`: what a transfer to or from a BAR takes; None for no longer than one to or from memory.
        """
        self._tree, self._up, self._ram, self._end, self.iommu = tree, up, ram, mask + 1, iommu
        self._speed = speed
        self._low = self._high = 0
        for node in tree.bars:
            if node.bar:
                self._widen(node.bar.start + node.bar.offset, node.bar.nbytes)
        tree.watchers.append(self._widen)

    def views(self, addr: int, nbytes: int, write: bool = False) -> Sequence[memoryview]:
        """Return views of the `nbytes` bytes at bus address `addr`. Raises BusFault, beyond the mask too."""
        end = addr + nbytes
        if end > self._end:
            raise BusFault(addr, write)
        if addr < self._high and end > self._low:
            for node in self._tree.bars:
                bar = node.bar
                if bar and bar.start <= addr - bar.offset < bar.start + bar.nbytes and self._tree.switched(node):
                    return self._ram.views(addr - bar.offset, nbytes, write)
        return self._up.views(addr, nbytes, write)

    def fills(self) -> Fills | None:
        """Return what the IOTLB did since this was asked last; None where it did nothing, or there is none."""
        return self.iommu.fills() if self.iommu is not None else None

    def peer_ns(self, addr: int, nbytes: int, *, write: bool) -> int:
        """Return the ns that a transfer takes at the peer that bus address `addr` leads to; 0 where that is memory.

        `write`: the peer's memory is written to.
        """
        if not self._high or self._speed is None:
            return 0
        for node in self._tree.bars:
            bar, switched = node.bar, self._tree.switched(node)
            if bar and bar.start <= (addr - bar.offset if switched else self._physical(addr)) < bar.start + bar.nbytes:
                return self._speed.ns(nbytes, write=write, bridge=not switched)
        return 0

    def _physical(self, addr: int) -> int:
        """Return where bus address `addr` leads to above the root; -1 where it leads nowhere."""
        try:
            return self.iommu.lookup(addr)[0] if self.iommu is not None else addr
        except InvariantError:
            return -1

    def _widen(self, start: int, nbytes: int) -> None:
        """Look at addresses of peers from now on at [start, start + nbytes) too."""
        self._low = min(self._low or start, start)
        self._high = max(self._high, start + nbytes)


class RootComplex:
    """Memory as the root has it, by physical address: a BAR to which the host bridge passes nothing on is nowhere."""

    def __init__(self, tree: Pcie, memory: Bus) -> None:
        """Let everything through to `memory` but what `tree` stops."""
        self._tree, self._memory = tree, memory

    def views(self, addr: int, nbytes: int, write: bool = False) -> Sequence[memoryview]:
        """Return views of memory, or of a BAR behind another port. Raises BusFault."""
        for node in self._tree.bars:
            bar = node.bar
            if bar and bar.start <= addr < bar.start + bar.nbytes and not self._tree.forwarded(node):
                raise BusFault(addr, write)
        return self._memory.views(addr, nbytes, write)
