"""Device addresses drawn: each mapping and where it leads, the IOTLB, bounce buffers, and the window of a lazy unmap.

    from labkit.widgets.iova import Iova
    Iova(m.trace)

Run, this module writes a page of two reads that are typed out here, and says where.
"""

import sys
from functools import partial

from labkit.trace.events import (
    DeviceDma,
    DeviceStart,
    DmaMap,
    DmaUnmap,
    GupUnpin,
    IotlbFill,
    IotlbFlush,
    Record,
)
from labkit.trace.trace import Trace
from labkit.views import iova as view
from labkit.views.mappings import Mappings, mappings
from labkit.views.steps import NARROW, WIDE
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.timed import ACT, figure, placed

_LABEL = "Device addresses, the memory they lead to, what the IOTLB knows of them, and below a row for the life of each"
_LEGEND = {
    "mapped": "mapped", "stale": "unmapped, still reachable", "empty": "free again", "cached": "in the IOTLB",
    "bounce": "bounce buffer", "bus": "a peer's own address", "premapped": "registered", "cut": "nothing answers",
}  # fmt: skip
_METERS = {
    "live": "bytes mapped", "stale": "bytes stale", "cached": "bytes in the IOTLB", "hits": "hits", "misses": "misses",
    "bounced": "bytes bounced",
}  # fmt: skip


def scene(trace: Trace) -> Scene:
    """Return the scene of the device addresses of `trace`."""
    told = mappings(trace)
    pictures = {"wide": view.iova(trace, WIDE), "narrow": view.iova(trace, NARROW)}
    head, under = view.headline(told)
    there = bool(told.maps)
    drawn = set(pictures["wide"].shapes["role"])
    meters = {name: words for name, words in _METERS.items() if any(told.meters.get(name, ()))}
    return Scene(
        head=head,
        under=under,
        label=_LABEL,
        steps=pictures["wide"].steps if there else [],
        figures={name: partial(figure, picture, _LABEL) for name, picture in pictures.items() if there},
        data=placed(pictures) | {"meters": {name: told.meters[name] for name in meters}},
        legend=[(f"x-{role}", text) for role, text in _LEGEND.items() if role in drawn],
        meters=meters,
        poster=_poster(told),
    )


def _poster(told: Mappings) -> int:
    """Return the step to open at: where nothing answers, in the first lazy window, or while a mapping is live."""
    if told.faults:
        return told.faults[0][0]
    windows = [one.unmap for one in told.maps if one.window]
    live = [max(min(one.unmap, len(told.told)) - 1, 0) for one in told.maps]
    return next(iter(windows or live), 0)


class Iova(Staged):
    """Device addresses in a notebook: of one trace."""

    act = ACT
    _esm = script(ACT, "host.js")
    _css = style()

    def __init__(self, trace: Trace, theme: Theme = "auto") -> None:
        """Show `trace`."""
        super().__init__(scene(trace), theme)


def sample() -> Trace:
    """Return two reads over a lazy IOMMU, typed out: of two scattered ranges, and of one page; one flush at the end."""
    top, two = 0xFFFF_C000, ((0x4000_0000, 8192), (0x4020_5000, 8192))
    records: tuple[Record, ...] = (
        DmaMap(450, 1, 1, ((top, 16384),), two, 2, 0, 0, 16, "iova", 4),
        DeviceStart(900, 1, 1, 5),
        DmaMap(1_450, 2, 2, ((top - 4096, 4096),), ((0x4018_0000, 4096),), 1, 0, 0, 16, "phys", 1),
        DeviceStart(1_900, 2, 2, 6),
        IotlbFill(70_900, 1, 1, tuple((top + i * 4096, 4096) for i in range(4)), (), 28, 4),
        DeviceDma(70_900, 1, 1, write=False, len=16384),
        DmaUnmap(71_900, 1, 1, 0, stale=True),
        GupUnpin(71_900, 1, 1, 2, 0),
        IotlbFill(74_900, 2, 2, ((top - 4096, 4096),), ((top, 4096),), 7, 1),
        DeviceDma(74_900, 2, 2, write=False, len=4096),
        DmaUnmap(75_900, 2, 2, 0, stale=True),
        GupUnpin(75_900, 2, 2, 1, 0),
        IotlbFlush(10_071_900, 0, 1),
    )
    return Trace(records, meta={"kernel": "7.3"})


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(sample()), ACT)}\n")


if __name__ == "__main__":
    main()
