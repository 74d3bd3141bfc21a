"""Physical memory, drawn: the address map, and the free lists of each zone in one or two states.

    from labkit.widgets.zones import Zones
    Zones({"fresh boot": young.zones(), "months of uptime": old.zones()}, old.ranges())

Run, this module writes a page of a machine of 16 GiB that is typed out here, and says where.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from labkit.units import PMD_ORDER
from labkit.views import zones as view
from labkit.views.steps import NARROW, WIDE
from labkit.views.zone_facts import TYPES, RangeLike, ZoneLike, percent, usable
from labkit.widgets.canvas import boxes, sheet, source, words
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.theme import LIGHT

_HATCHES = ("right_diagonal_line", None, "dot", "horizontal_line", "vertical_line", "left_diagonal_line")
"""The second code of each migratetype; movable memory, of which there is most, has none."""
CIVIDIS = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#948e78", "#a59c74", "#c3b369", "#e1cc55", "#fee838")
"""Ten steps of cividis, which every eye sees in the same order; the same on light and dark paper."""
_LABEL = "Physical addresses, and for each zone its free lists by order"


def _hatched(fill: str, line: str, pattern: str | None, ink: str, scale: float = 6) -> dict[str, Any]:
    return {
        "fill_color": LIGHT[fill], "line_color": LIGHT[line], "hatch_pattern": pattern, "hatch_color": LIGHT[ink],
        "hatch_scale": scale, "hatch_weight": 0.7, "hatch_alpha": 0.75,
    }  # fmt: skip


_LOOKS: dict[str, dict[str, Any]] = {
    "card": {"fill_color": LIGHT["card"], "line_color": LIGHT["hair"], "border_radius": 5},
    "ram": {"fill_color": LIGHT["anon"], "line_color": LIGHT["mid"], "border_radius": 3},
    "hole": {"fill_color": None, "line_color": LIGHT["mark"], "line_dash": "dashed", "border_radius": 3},
    "paged": _hatched("nopage", "nopage_line", "dot", "nopage_line", 9) | {"border_radius": 3},
    "pageless": _hatched("nopage", "nopage_line", "right_diagonal_line", "nopage_line", 9) | {"border_radius": 3},
    "hair": {"fill_color": LIGHT["hair"]},
    "tax": {"fill_color": LIGHT["grey"]},
    "gauge": {"fill_color": LIGHT["free"], "line_color": LIGHT["hair"], "border_radius": 3},
    "level": {"fill_color": LIGHT["grey"], "border_radius": 3},
    "tick": {"fill_color": LIGHT["ink"]},
    **{
        f"type{i}": _hatched(f"hue{i}" if i > 1 else f"hue{1 - i}", "card", hatch, f"on{i}" if i > 1 else f"on{1 - i}")
        for i, hatch in enumerate(_HATCHES)
    },
}
"""How each role looks."""


def figure(picture: view.Zones) -> Any:
    """Return the figure of `picture`."""
    fig = sheet(picture.width, picture.height, _LABEL)
    for role, look in _LOOKS.items():
        boxes(fig, source(f"rects_{role}", _of(picture, role)), **{"fill_alpha": 1} | look)
    bad = _of(picture, "bad")
    colours = [CIVIDIS[min(int(amount * len(CIVIDIS)), len(CIVIDIS) - 1)] for amount in bad["amount"]]
    boxes(fig, source("rects_bad", bad | {"color": colours}), fill_alpha=1, border_radius=2)
    focus = source("focus", {"left": [], "top": [], "right": [], "bottom": []})
    boxes(fig, focus, fill_color=None, fill_alpha=0, line_color=LIGHT["ink"], line_width=2, border_radius=4)
    ink = {"ondark": "dot", "onlight": "on1"}
    roles = [ink.get(role, role) for role in picture.texts["role"]]
    words(fig, "texts", picture.texts | {"role": roles})
    return fig


def _of(picture: view.Zones, role: str) -> dict[str, Any]:
    rows = [i for i, found in enumerate(picture.rects["role"]) if found == role]
    return {name: [column[i] for i in rows] for name, column in picture.rects.items() if name != "role"}


def scene(states: Mapping[str, Sequence[ZoneLike]], ranges: Sequence[RangeLike] = ()) -> Scene:
    """Return the scene of memory in one or two `states`."""
    pictures = {"wide": view.zones(states, ranges, WIDE), "narrow": view.zones(states, ranges, NARROW)}
    data = {name: {"width": p.width, "hot": p.hot, "focus": p.focus} for name, p in pictures.items()}
    kinds = {role for role in pictures["wide"].rects["role"] if role.startswith("type")}
    legend = [(f"type{i}", name) for i, name in enumerate(TYPES) if f"type{i}" in kinds]
    under = "The number over a bar counts free blocks of an order (/proc/buddyinfo); its height is their share."
    return Scene(
        head=_head(states),
        under=under,
        label=_LABEL,
        steps=pictures["wide"].steps,
        figures={name: partial(figure, picture) for name, picture in pictures.items()},
        data=data,
        poster=_poster(states, len(pictures["wide"].steps)),
        legend=[*legend, *((name, text) for name, text in _LEGEND if name in pictures["wide"].rects["role"])],
    )  # fmt: skip


_LEGEND = (
    ("bad", "in % of the free memory: what is in smaller blocks"), ("hole", "hole"), ("paged", "device, struct pages"),
    ("pageless", "device, none"),
)  # fmt: skip


def _head(states: Mapping[str, Sequence[ZoneLike]]) -> str:
    told = ", ".join(f"{percent(usable(zones))} at “{name}”" for name, zones in states.items())
    return f"Free memory in blocks of 2 MiB and more: {told}" if told else "No memory"


def _poster(states: Mapping[str, Sequence[ZoneLike]], steps: int) -> int:
    """Return the step to open at: blocks of 2 MiB in the largest zone."""
    rows = next(iter(states.values()), ())
    largest = max(range(len(rows)), key=lambda i: rows[i].managed, default=0)
    each = view.ORDERS + 1
    return max(0, steps - each * (len(rows) - largest) + 1 + PMD_ORDER)


class Zones(Staged):
    """Physical memory in a notebook: `states` by name, each a sequence of zones, and the `ranges` of addresses."""

    act = "zones.js"
    _esm = script("zones.js", "host.js")
    _css = style()

    def __init__(
        self, states: Mapping[str, Sequence[ZoneLike]], ranges: Sequence[RangeLike] = (), theme: Theme = "auto"
    ) -> None:
        """Show one state, or two side by side."""
        super().__init__(scene(states, ranges), theme)


class _Marks(NamedTuple):
    min: int
    low: int
    high: int


class _Zone(NamedTuple):
    name: str
    start: int
    end: int
    managed: int
    free: tuple[tuple[int, ...], ...]
    watermarks: _Marks


class _Range(NamedTuple):
    name: str
    start: int
    end: int
    struct_pages: bool = True


def sample() -> tuple[dict[str, list[ZoneLike]], list[RangeLike]]:
    """Return a machine of 16 GiB with two devices, fresh and aged: numbers of the kind that one sees, not measured."""
    spans = {"DMA": (1, 4096, 3840, _Marks(16, 20, 24)), "DMA32": (4096, 786432, 782336, _Marks(3263, 4078, 4893)),
             "Normal": (1048576, 3932160, 2883584, _Marks(12028, 15035, 18042)),
             "Movable": (3932160, 4456448, 524288, _Marks(128, 674, 1220))}  # fmt: skip
    fresh = {"DMA": (0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 3), "DMA32": (4, 3, 3, 2, 3, 3, 2, 2, 3, 3, 758),
             "Normal": (31, 20, 14, 11, 9, 6, 5, 4, 3, 5, 2790), "Movable": (0,) * PMD_ORDER + (0, 512)}  # fmt: skip
    aged = {"DMA": (2, 1, 1, 0, 2, 1, 1, 0, 1, 1, 2), "DMA32": (31873, 18441, 9230, 4102, 1620, 402, 88, 17, 4, 1, 0),
            "Normal": (88310, 61207, 30140, 11873, 4406, 1290, 377, 102, 31, 9, 2),
            "Movable": (2210, 1830, 1204, 930, 610, 402, 233, 150, 97, 61, 190)}  # fmt: skip
    mix = {"DMA": (1, 0, 0), "DMA32": (0.12, 0.8, 0.08), "Normal": (0.22, 0.66, 0.12), "Movable": (0, 1, 0)}
    states = {
        state: [
            _Zone(name, *spans[name][:3], tuple(_split(n, mix[name]) for n in counts), spans[name][3])
            for name, counts in lists.items()
        ]
        for state, lists in (("fresh boot", fresh), ("months of uptime", aged))
    }
    gib = 1 << 30
    ram = ((4096, 640 << 10), (1 << 20, 3 * gib), (4 * gib, 17 * gib))
    ranges = [_Range("System RAM", *span) for span in ram]
    ranges.append(_Range("p2pmem0", 20 * gib, 20 * gib + (64 << 20)))
    ranges.append(_Range("gpu0 BAR", 32 * gib, 56 * gib, struct_pages=False))
    return {name: list(rows) for name, rows in states.items()}, list(ranges)


def _split(count: int, mix: tuple[float, ...]) -> tuple[int, ...]:
    """Return `count` blocks by migratetype, in the proportions of `mix`; what is left over is movable."""
    kinds = [int(count * share) for share in mix] + [0, 0, 0]
    kinds[0 if mix[0] == 1 else 1] += count - sum(kinds)
    return tuple(kinds)


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(*sample()), 'zones.js')}\n")


if __name__ == "__main__":
    main()
