"""The walk, drawn: a user range goes through the page tables, and N pages become M phyrs.

    from labkit.widgets.walk import Walk
    Walk(task.mm.translations(), levels=task.mm.walk)
    Walk(m.trace.state_at(m.trace.end).pages)

Run, this module writes a page of a range with small pages, a 2 MiB leaf and memory without struct pages.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from labkit.views.shapes import Columns
from labkit.views.steps import NARROW, WIDE
from labkit.views.walk import BITS, LEVELS, Level, Row, headline, walk
from labkit.views.walk import Walk as Found
from labkit.views.walk_layout import METERS, Sheet, counted, hue, lay
from labkit.views.words import address
from labkit.widgets.canvas import boxes, sheet, source, words
from labkit.widgets.curves import curves
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.theme import LIGHT
from labkit.widgets.theme import hue as role

_LABEL = "A user address goes through four levels of page tables; its pages become frames, and runs of frames phyrs"
_PALE = 0.2


def figure(plan: Sheet) -> Any:
    """Return the figure of a walk, before its first step."""
    fig = sheet(plan.width, plan.height, _LABEL)
    _address(fig, plan)
    _tables(fig, plan)
    _flow(fig, plan)
    _gauges(fig, plan)
    words(fig, "texts", plan.texts)
    return fig


def _texts(n: int, size: float, font: str, style_: str, align: str, ink: str = "ink") -> dict[str, list[Any]]:
    """Return `n` texts that the browser writes."""
    return {
        "x": [0.0] * n, "y": [0.0] * n, "text": [""] * n, "size": [size] * n, "role": [ink] * n, "font": [font] * n,
        "style": [style_] * n, "align": [align] * n,
    }  # fmt: skip


def _address(fig: Any, plan: Sheet) -> None:
    edges = {"left": [f[0] for f in plan.fields], "right": [f[1] for f in plan.fields]}
    edges |= {"top": [plan.field_top] * 5, "bottom": [plan.field_top + 46] * 5}
    look = {
        "hatch_pattern": "hatch",
        "hatch_color": LIGHT["mark"],
        "hatch_alpha": 0.35,
        "hatch_scale": 8,
        "hatch_weight": 0.6,
    }
    boxes(fig, source("fields", edges | {"hatch": [" "] * 5}), fill_color=LIGHT["card"], fill_alpha=1,
          line_color=LIGHT["mid"], border_radius=4, **look)  # fmt: skip
    middle = {"x": [f[2] for f in plan.fields]}
    words(fig, "binary", _texts(5, 11, "mono", "normal", "center", "mid") | middle | {"y": [plan.field_top + 14] * 5})
    words(fig, "index", _texts(5, 14, "mono", "bold", "center") | middle | {"y": [plan.field_top + 33] * 5})


def _tables(fig: Any, plan: Sheet) -> None:
    edges = {
        "left": [t.left for t in plan.tables], "right": [t.right for t in plan.tables],
        "top": [t.top for t in plan.tables], "bottom": [t.bottom for t in plan.tables],
    }  # fmt: skip
    fans = source("fans", {"xs": [[]] * 4, "ys": [[]] * 4, "color": [LIGHT["grey"]] * 4})
    fig.patches(
        "xs", "ys", source=fans, fill_color="color", fill_alpha=0.14, line_color="color", line_alpha=0.5, line_width=0.8
    )
    boxes(fig, source("tables", edges | {"alpha": [1.0] * 4}), fill_color=LIGHT["free"], line_color=LIGHT["mid"],
          line_alpha="alpha", border_radius=3)  # fmt: skip
    nothing = {name: [0.0] * 4 for name in ("left", "right", "top", "bottom", "alpha")} | {"color": [LIGHT["grey"]] * 4}
    boxes(fig, source("visited", nothing), fill_alpha="alpha")
    boxes(
        fig, source("slots", nothing), fill_alpha="alpha", line_color=LIGHT["ink"], line_alpha="alpha", line_width=1.2
    )
    words(fig, "slot_text", _texts(4, 11.5, "mono", "bold", "left"))
    words(fig, "entry_text", _texts(8, 10, "mono", "normal", "left", "mid"))
    _chips(fig, plan)


def _chips(fig: Any, plan: Sheet) -> None:
    """Draw the bits of an entry: those that are set stand out by colour, and by weight of their names."""
    n = len(plan.chips)
    chips: Columns = {"left": [c[0] for c in plan.chips], "right": [c[1] for c in plan.chips]}
    chips |= {"top": [plan.chip_top] * n, "bottom": [plan.chip_top + 24] * n, "alpha": [0.0] * n}
    chips["color"] = [LIGHT[{"SPECIAL": "hue6", "PSE": "hue2"}.get(name, "hue0")] for name, _, _ in BITS]
    boxes(fig, source("chips", chips), line_color=LIGHT["mid"], border_radius=4)
    at = {"x": [(a + b) / 2 for a, b in plan.chips], "y": [plan.chip_top + 12] * n, "alpha": [1.0] * n}
    names = {"text": [name for name, _, _ in BITS]}
    words(fig, "chip_on", _texts(n, 11, "mono", "bold", "center", "on0") | at | names, text_alpha="alpha")
    words(fig, "chip_off", _texts(n, 11, "mono", "normal", "center", "mid") | at | names, text_alpha="alpha")


def _flow(fig: Any, plan: Sheet) -> None:
    """Draw ribbons and boxes pale, as they will be, and solid as far as the walk has come."""
    for name, ribbons in plan.ribbons.items():
        n = len(ribbons["hue"])
        data = source(name, ribbons | curves(ribbons) | {"alpha": [_PALE / 2] * n, "color": _colours(ribbons["hue"])})
        fig.patches(
            "xs", "ys", source=data, fill_color="color", fill_alpha="alpha", line_color="color", line_alpha="alpha"
        )
    for name, columns in plan.blocks.items():
        n, colours = len(columns["hue"]), {"color": _colours(columns["hue"])}
        pale = source(f"{name}_ahead", columns | colours)
        boxes(fig, pale, fill_alpha=_PALE, line_color="color", line_alpha=0.6, line_width=0.8)
        boxes(fig, source(name, columns | colours | {"alpha": [0.0] * n, "whole": columns["bottom"]}), border_radius=1)
    words(fig, "starts", plan.starts, background_fill_color=LIGHT["paper"], background_fill_alpha=0.75, padding=1)
    n, names = len(plan.names["x"]), plan.names
    names = names | {"size": [11] * n, "font": ["ui"] * n, "style": ["normal"] * n}
    words(fig, "names_ahead", names | {"role": ["ink"] * n, "alpha": [1.0] * n}, text_alpha="alpha")
    words(fig, "names", names | {"alpha": [0.0] * n}, text_alpha="alpha")


def _colours(hues: Sequence[int]) -> list[str]:
    return [LIGHT[role(index)] for index in hues]


def _gauges(fig: Any, plan: Sheet) -> None:
    left, right, top, today = (list(column) for column in zip(*plan.gauges, strict=True))
    n = len(left)
    edges = {"left": left, "top": top, "bottom": [y + 9 for y in top]}
    boxes(fig, source("gauge_room", edges | {"right": right}), fill_color=LIGHT["free"], fill_alpha=1, border_radius=2)
    data = edges | {"right": left, "color": [LIGHT["grey"] if old else LIGHT["hue0"] for old in today]}
    data |= {"hatch": ["right_diagonal_line" if old else " " for old in today]}
    boxes(fig, source("gauges", data), fill_alpha=1, hatch_pattern="hatch", hatch_color=LIGHT["card"], hatch_alpha=0.8,
          hatch_scale=6, hatch_weight=0.7, border_radius=2)  # fmt: skip
    at = {"x": [x + 6 for x in right], "y": [y + 4.5 for y in top]}
    words(fig, "gauge_text", _texts(n, 10.5, "mono", "normal", "left") | at)


def scene(rows: Iterable[Row], levels: Callable[[int], Sequence[Level]] | None = None) -> Scene:
    """Return the scene of the walk through `rows` of translations (user address, physical address, bytes, ...)."""
    found = walk(rows, levels)
    plans = {"wide": lay(found, WIDE), "narrow": lay(found, NARROW)} if found.entries else {}
    head, under = headline(found)
    return Scene(
        head=head,
        under=under,
        label=_LABEL,
        steps=found.steps,
        figures={name: partial(figure, plan) for name, plan in plans.items()},
        data={name: _placed(plan) for name, plan in plans.items()} | _walked(found),
        legend=[("today", "today: pin_user_pages"), ("phyr", "phyr: get_user_phyrs")],
        poster=max(0, len(found.entries) * 3 // 5 - 1),
    )


def _placed(plan: Sheet) -> dict[str, Any]:
    names = ("width", "tables", "chip_top", "field_top", "hot", "gauges")
    return {name: getattr(plan, name) for name in names}


def _walked(found: Found) -> dict[str, Any]:
    """Return what the script shows at each step."""
    phyrs = len(found.phyrs)
    return {
        "index": [entry.indexes for entry in found.entries],
        "offset": [entry.va & 0xFFF for entry in found.entries],
        "word": [[address(word) if word else "" for word in entry.words] for entry in found.entries],
        "bits": [[entry.words[-1] >> bit & 1 for _, bit, _ in BITS] for entry in found.entries],
        "phyr": [entry.phyr for entry in found.entries],
        "done": _done(found),
        "hue": [hue(entry.phyr, phyrs) for entry in found.entries],
        "levels": [name for name, _ in LEVELS],
        "counted": counted(found.costs),
        "same": [not phyr and today != "entries" for today, phyr, _ in METERS],
    }


def _done(found: Found) -> list[float]:
    """Return, for each entry, how much of its phyr is found once it is read, 0 to 1."""
    out, sums = [], [0] * len(found.phyrs)
    for entry in found.entries:
        sums[entry.phyr] += entry.nbytes
        out.append(sums[entry.phyr] / found.phyrs[entry.phyr][1])
    return out


class Walk(Staged):
    """The walk in a notebook. `rows`: translations; `levels`: the entries on the way to an address, as of Mm.walk."""

    act = "walk.js"
    _esm = script("walk.js", "host.js")
    _css = style()

    def __init__(
        self, rows: Iterable[Row], levels: Callable[[int], Sequence[Level]] | None = None, theme: Theme = "auto"
    ) -> None:
        """Show the walk through `rows`."""
        super().__init__(scene(rows, levels), theme)


def sample() -> tuple[list[Row], Callable[[int], Sequence[Level]]]:
    """Return rows and entries typed out: 24 pages in five runs, half a 2 MiB leaf, and 16 pages of a device."""
    va, flags = 0x7F3A_BFE0_8000, 0x67
    runs = [(0x1_2345, 6), (0x8_8010, 1), (0x8_7C00, 9), (0x1_234B, 3), (0x4_0A00, 5)]
    rows: list[Row] = []
    at = va
    for frame, pages in runs:
        rows.append((at, frame << 12, pages << 12))
        at += pages << 12
    leaf = (at + 0x1F_FFFF) & ~0x1F_FFFF
    rows.append((leaf, 0x1_4020_0000, 0x10_0000))
    rows.append((leaf + 0x20_0000, 0x20_0000_0000, 16 << 12))

    def levels(addr: int) -> Sequence[Level]:
        start, pa, _ = next(row for row in reversed(rows) if row[0] <= addr)
        upper = [(name, addr >> shift & 511, 0x67) for name, shift in LEVELS]
        if start == leaf:
            return (*upper[:2], ("PMD", addr >> 21 & 511, pa & ~0x1F_FFFF | 0x80 | flags))
        special = 0x200 if pa == rows[-1][1] else 0
        return (*upper[:3], ("PTE", addr >> 12 & 511, pa + addr - start & ~0xFFF | special | flags))

    return rows, levels


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(*sample()), 'walk.js')}\n")


if __name__ == "__main__":
    main()
