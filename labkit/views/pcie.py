"""The tree that a device stands in becomes a picture, with the way that its requests take to each peer, hop by hop."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from labkit.trace.events import DmaMap
from labkit.trace.trace import Trace
from labkit.units import human_bytes
from labkit.views.steps import NARROW, WIDE, Hot, Step
from labkit.views.timed import Pen, Shape, Timed, Word, wide
from labkit.views.words import address, count

RAM = "RAM"
"""The place below the root that every request reaches: no node of the tree."""
_TOP, _HIGH, _APART = 24.0, 46.0, 40.0
_ROLES = {"ram": "mapped", "own": "bus", "switch": "bus", "bridge": "mapped", "none": "full"}
"""How the way of each route looks."""
_FUNCTION = "calc_map_type_and_dist"


class Node(NamedTuple):
    """One box: `bar` is (first byte, bytes, what is added on the bus), None without memory."""

    name: str
    parent: str | None
    kind: str
    acs: bool = False
    bar: tuple[int, int, int] | None = None


class Hop(NamedTuple):
    """One stop of the way to a peer: at which node, and the sentence. `before` is the node that it came from."""

    peer: str
    route: str
    at: str
    before: str
    text: str


class Tree(NamedTuple):
    """What a trace tells of its PCIe tree."""

    nodes: tuple[Node, ...]
    client: str
    host: str
    listed: bool
    routes: dict[str, str]

    def find(self, name: str) -> Node:
        """Return the node `name`. Raises StopIteration without one."""
        return next(node for node in self.nodes if node.name == name)

    def above(self, name: str) -> list[str]:
        """Return `name` and what is above it, the root last."""
        out, node = [name], self.find(name)
        while node.parent is not None:
            out.append(node.parent)
            node = self.find(node.parent)
        return out

    def below(self, name: str) -> list[str]:
        """Return the names of the nodes right below `name`."""
        return [node.name for node in self.nodes if node.parent == name]


def tree(trace: Trace) -> Tree | None:
    """Return the tree of `trace`, with its RAM beside the root's ports; None where it tells of none."""
    told: Any = trace.meta.get("pcie")
    if not isinstance(told, Mapping):
        return None
    found = [Node(row["name"], row["parent"], row["kind"], row["acs"], _bar(row["bar"])) for row in told["nodes"]]
    top = next(node.name for node in found if node.parent is None)
    host = told.get("host") or {"name": "a host bridge", "listed": False}
    nodes = (*found, Node(RAM, top, "memory"))
    return Tree(nodes, told["client"], host["name"], bool(host["listed"]), dict(told["routes"]))


def _bar(row: Sequence[int] | None) -> tuple[int, int, int] | None:
    return (row[0], row[1], row[2]) if row else None


def hops(trace: Trace, found: Tree) -> list[Hop]:
    """Return the way to RAM, and then to each peer that has memory."""
    out = [Hop(RAM, "ram", *hop) for hop in _to_ram(found)]
    for peer, route in found.routes.items():
        out += [Hop(peer, route, *hop) for hop in _to_peer(trace, found, peer, route)]
    return out


def _to_ram(found: Tree) -> Iterator[tuple[str, str, str]]:
    way = [*found.above(found.client), RAM]
    yield way[0], "", f"{way[0]} puts the address of RAM on the bus."
    before = way[0]
    for name in way[1:-1]:
        yield name, before, f"{name} passes the request up."
        before = name
    yield RAM, before, "It comes to RAM, as every DMA did that this lab has shown so far."


def _to_peer(trace: Trace, found: Tree, peer: str, route: str) -> Iterator[tuple[str, str, str]]:
    """Yield (node, the one before, sentence) of the way from the client to `peer`."""
    client, bar = found.client, found.find(peer).bar or (0, 0, 0)
    yield client, "", f"{client} puts address {address(bar[0] + bar[2])}, the memory of {peer}, on the bus."
    if route == "own":
        yield client, "", f"It is {client}'s own memory, so nothing goes out (P2P-2)."
        return
    up, down = found.above(client), found.above(peer)
    turn = next(name for name in up if name in down) if route == "switch" else up[-1]
    before = client
    for name in up[1 : up.index(turn)]:
        yield name, before, _climb(found.find(name))
        before = name
    yield turn, before, _turn(found, turn, route)
    if route == "none":
        return
    before = turn
    for name in reversed(down[1 : down.index(turn)]):
        yield name, before, f"{name} passes it down."
        before = name
    yield peer, before, _lands(trace, found.find(peer))


def _climb(node: Node) -> str:
    why = ": ACS sends all that goes from device to device up to the root (P2P-2)" if node.acs else ""
    return f"{node.name} passes the request up{why}."


def _turn(found: Tree, turn: str, route: str) -> str:
    if route == "switch":
        return f"{turn} knows whose address that is, and sends it down: the root never sees it (BUS_ADDR, P2P-2)."
    if route == "bridge":
        return f"{found.host} is known to pass requests on from port to port (THRU_HOST_BRIDGE, P2P-3)."
    return f"{found.host} is not known to pass it on: the kernel refuses the mapping (NOT_SUPPORTED, P2P-2)."


def _lands(trace: Trace, node: Node) -> str:
    maps = [rec for rec in trace.of(DmaMap) if _in_bar(rec, node)]
    if not maps:
        return f"It would come to the memory of {node.name}; nothing was mapped there."
    total = sum(n for rec in maps for _, n in rec.phys)
    return (
        f"It comes to the memory of {node.name}: {count(len(maps), 'mapping')} of {human_bytes(total)} in this trace."
    )


def _in_bar(rec: DmaMap, node: Node) -> bool:
    bar = node.bar
    return bar is not None and any(bar[0] <= addr < bar[0] + bar[1] for addr, _ in rec.phys)


def headline(found: Tree | None) -> tuple[str, str]:
    """Return what the tree allows, in a headline and a sentence."""
    if found is None:
        return "No PCIe tree", "This trace does not tell of one: its device is not on PCIe, or nobody asked."
    ends = {"own": "is its own", "switch": "over a switch", "bridge": "through the host bridge", "none": "not at all"}
    peers = [f"{peer} {ends.get(route, route)}" for peer, route in found.routes.items()]
    marks = sum(node.acs for node in found.nodes)
    acs = f"{count(marks, 'port')} with ACS" if marks else "no port with ACS"
    head = f"{found.client} reaches {', '.join(peers)}" if peers else f"{found.client} has no peer with memory"
    listed = "known to pass requests on" if found.listed else "not known to pass requests on"
    return head, f"The host bridge is {found.host}, {listed}; {acs}."


def steps(way: Sequence[Hop]) -> list[Step]:
    """Return a step for each hop."""
    return [
        Step(f"to {hop.peer}", hop.at, hop.text, _FUNCTION if hop.route != "ram" else "", "upstream") for hop in way
    ]


def pcie(trace: Trace, width: int = WIDE) -> Timed:
    """Return the picture of the tree of `trace`."""
    found, pen = tree(trace), Pen()
    if found is None:
        return pen.done(width, 40, [])
    way, boxes = hops(trace, found), _places(found, width)
    for node in found.nodes:
        if node.parent is not None:
            for box in _link(boxes[node.parent], boxes[node.name]):
                pen.shapes.append(Shape(*box, "wire", ahead=1, past=1))
    for at, hop in enumerate(way):
        _hop(pen, boxes, hop, (at, _end(way, at)))
    for node in found.nodes:
        _node(pen, node, boxes[node.name], width)
    for at, hop in enumerate(way):
        _here(pen, boxes[hop.at], at, stops=hop.route == "none" and at + 1 == _end(way, at))
    depth = max(box[3] for box in boxes.values())
    return pen.done(width, depth + 40, steps(way))


def _end(way: Sequence[Hop], at: int) -> int:
    """Return the step at which the way of which hop `at` is a part is over."""
    return next((i for i in range(at, len(way)) if way[i].peer != way[at].peer), len(way))


_Box = tuple[float, float, float, float]


def _places(found: Tree, width: int) -> dict[str, _Box]:
    """Return the box of each node: leaves side by side, each bridge over the middle of what is below it."""
    top = next(node.name for node in found.nodes if node.parent is None)
    leaves = [node.name for node in found.nodes if not found.below(node.name)]
    order = [name for name in _walk(found, top) if name in leaves]
    each = min((width - 8.0) / max(len(order), 1), 330.0)
    left = (width - each * len(order)) / 2
    wide_ = min(each - 12, 240.0)
    middle = {name: left + each * (i + 0.5) for i, name in enumerate(order)}
    boxes: dict[str, _Box] = {}
    for name in reversed(list(_walk(found, top))):
        below = found.below(name)
        if below:
            middle[name] = sum(middle[child] for child in below) / len(below)
        y = _TOP + (len(found.above(name)) - 1) * (_HIGH + _APART)
        boxes[name] = middle[name] - wide_ / 2, y, middle[name] + wide_ / 2, y + _HIGH
    return boxes


def _walk(found: Tree, name: str) -> Iterator[str]:
    yield name
    for child in found.below(name):
        yield from _walk(found, child)


def _link(upper: _Box, lower: _Box, thick: float = 1.0) -> list[_Box]:
    """Return the lines that join two boxes: down, across, down."""
    x0, x1, y0, y1 = (upper[0] + upper[2]) / 2, (lower[0] + lower[2]) / 2, upper[3], lower[1]
    middle = (y0 + y1) / 2
    return [
        (x0 - thick, y0, x0 + thick, middle + thick),
        (min(x0, x1) - thick, middle - thick, max(x0, x1) + thick, middle + thick),
        (x1 - thick, middle - thick, x1 + thick, y1),
    ]


def _hop(pen: Pen, boxes: Mapping[str, _Box], hop: Hop, life: tuple[int, int]) -> None:
    """Draw the link that a hop goes along, from its step on until the way is over."""
    if not hop.before:
        return
    one, other = boxes[hop.before], boxes[hop.at]
    upper, lower = (one, other) if one[1] < other[1] else (other, one)
    for box in _link(upper, lower, 4.0):
        pen.shapes.append(Shape(*box, _ROLES.get(hop.route, "mapped"), *life))


def _node(pen: Pen, node: Node, box: _Box, width: int) -> None:
    """Draw a node: its name, what it is, its memory, and a badge where it redirects."""
    narrow = width <= NARROW
    pen.shapes.append(Shape(*box, "file" if node.bar or node.name == RAM else "box", ahead=1, past=1))
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    size = 10.5 if narrow else 12.5
    under = f"{human_bytes(node.bar[1])} at {address(node.bar[0])}" if node.bar else node.kind
    pen.words.append(Word(x, y - 8, node.name, size, style="bold", align="center", ahead=1, past=1))
    if wide(under, size - 2) < box[2] - box[0]:
        pen.words.append(Word(x, y + 10, under, size - 2, "mid", align="center", ahead=1, past=1))
    if node.acs:
        badge = (box[2] - 30, box[1] - 8, box[2] + 4, box[1] + 8)
        pen.shapes.append(Shape(*badge, "waits", ahead=1, past=1))
        pen.words.append(Word(box[2] - 13, box[1], "ACS", 10, "on1", style="bold", align="center", ahead=1, past=1,
                              back="waits"))  # fmt: skip
    acs = ("ACS: sends peers' requests up to the root",) if node.acs else ()
    memory = (f"memory: {human_bytes(node.bar[1])} at {address(node.bar[0])}",) if node.bar else ()
    pen.hot.append(Hot(*box, (node.name, node.kind, *memory, *acs)))


def _here(pen: Pen, box: _Box, at: int, *, stops: bool) -> None:
    """Draw a frame around where the request is; where it stops for good, it says so."""
    left, top, right, bottom = box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4
    across = [(left, top, right, top + 3), (left, bottom - 3, right, bottom)]
    for edge in (*across, (left, top, left + 3, bottom), (right - 3, top, right, bottom)):
        pen.shapes.append(Shape(*edge, "cut" if stops else "edge", at, at + 1))
    if stops:
        pen.words.append(
            Word(box[2] + 10, (box[1] + box[3]) / 2, "✕ refused", 13, "ink", style="bold", t1=at, t4=at + 1)
        )
