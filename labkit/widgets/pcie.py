"""The PCIe tree drawn, and the way that a drive's requests take to RAM and to the memory of its peers.

    from labkit.widgets.pcie import PcieTree
    PcieTree(m.trace)

Run, this module writes a page of a tree that is typed out here, and says where.
"""

import sys
from functools import partial
from typing import Any

from labkit.trace.events import DmaMap
from labkit.trace.trace import Trace
from labkit.views import pcie as view
from labkit.views.steps import NARROW, WIDE
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.timed import ACT, figure, placed

_LABEL = "Root complex, ports, switches and devices, and the way of a request from the drive, hop by hop"
_LEGEND = {
    "mapped": "through the host bridge",
    "bus": "over the switch alone",
    "full": "refused",
    "waits": "sends up (ACS)",
}


def scene(trace: Trace) -> Scene:
    """Return the scene of the tree of `trace`."""
    found = view.tree(trace)
    pictures = {"wide": view.pcie(trace, WIDE), "narrow": view.pcie(trace, NARROW)}
    head, under = view.headline(found)
    steps = pictures["wide"].steps
    drawn = set(pictures["wide"].shapes["role"])
    return Scene(
        head=head,
        under=under,
        label=_LABEL,
        steps=steps,
        figures={name: partial(figure, picture, _LABEL) for name, picture in pictures.items() if steps},
        data=placed(pictures),
        legend=[(f"x-{role}", text) for role, text in _LEGEND.items() if role in drawn],
        poster=max(len(steps) - 1, 0),
    )


class PcieTree(Staged):
    """The PCIe tree of a machine in a notebook."""

    act = ACT
    _esm = script(ACT, "host.js")
    _css = style()

    def __init__(self, trace: Trace, theme: Theme = "auto") -> None:
        """Show the tree that `trace` tells of."""
        super().__init__(scene(trace), theme)


def sample(*, acs: bool = False) -> Trace:
    """Return a GPU beside a drive below one switch, typed out; `acs`: its ports send all up to the root."""
    bar = [0x38_0000_0000, 8 << 30, 0]
    rows = (
        ("host bridge", None, "root complex", False, None), ("root port 0", "host bridge", "root port", False, None),
        ("switch", "root port 0", "upstream port", False, None),
        ("switch port 0", "switch", "downstream port", acs, None), ("nvme", "switch port 0", "endpoint", False, None),
        ("switch port 1", "switch", "downstream port", acs, None), ("gpu", "switch port 1", "endpoint", False, bar),
    )  # fmt: skip
    names = ("name", "parent", "kind", "acs", "bar")
    told: dict[str, Any] = {
        "client": "nvme", "host": {"name": "AMD EPYC (family 0x17)", "listed": True},
        "nodes": [dict(zip(names, row, strict=True)) for row in rows],
        "routes": {"gpu": "bridge" if acs else "switch"},
    }  # fmt: skip
    phys = ((bar[0], 65536),)
    rec = DmaMap(450, 1, 1, phys, phys, 0, 0, 0, 0, "phys" if acs else "bus")
    return Trace((rec,), meta={"kernel": "7.3", "pcie": told})


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(sample()), ACT)}\n")


if __name__ == "__main__":
    main()
