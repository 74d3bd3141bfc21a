"""The residual drawn: captured IOs by buffer and size, each a cell, in which what was predicted is what was seen.

    from labkit.widgets.residual import Residual
    Residual(rows)

Run, this module writes a page of forty IOs that are typed out here, and says where.
"""

import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from labkit.views import residual as view
from labkit.views.steps import NARROW, WIDE
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.timed import ACT, figure, placed

Row = Mapping[str, Any]
_LABEL = "A gauge for each part that is compared; a matrix of buffers and sizes, with a cell for each IO"
_LEGEND = {
    "mapped": ("x-mapped", "as predicted"), "full": ("x-full", "not as predicted (×)"),
    "empty": ("x-empty", "nothing to compare with"),
}  # fmt: skip


def scene(rows: Iterable[Row]) -> Scene:
    """Return the scene of captured IOs."""
    told = list(rows)
    found = view.ios(told)
    pictures = {"wide": view.residual(told, WIDE), "narrow": view.residual(told, NARROW)}
    head, under = view.headline(found)
    drawn = set(pictures["wide"].shapes["role"])
    return Scene(
        head=head,
        under=under,
        label=_LABEL,
        steps=pictures["wide"].steps,
        figures={name: partial(figure, picture, _LABEL) for name, picture in pictures.items() if found},
        data=dict(placed(pictures)),
        legend=[look for role, look in _LEGEND.items() if role in drawn],
        poster=next((i for i, io in enumerate(found) if io.exact is False), 0),
    )


class Residual(Staged):
    """Captured IOs in a notebook: rows with id, op, size (bytes), buffer, parts by name, and the first difference."""

    act = ACT
    _esm = script(ACT, "host.js")
    _css = style()

    def __init__(self, rows: Iterable[Row], theme: Theme = "auto") -> None:
        """Show them."""
        super().__init__(scene(rows), theme)


def sample() -> list[Row]:
    """Return forty IOs, typed out: of one the bios are not as predicted, of one the order of events was not certain."""
    kinds = ("4KiB", "4KiB-shuffled", "64KiB", "2MiB", "memfd")
    rows: list[dict[str, Any]] = []
    for i in range(40):
        size = 512 << (i * 7 % 16)
        parts: dict[str, bool | None] = dict.fromkeys(view.PARTS, True)
        row = {"id": f"io-{i:03}", "op": "rw"[i % 2], "size": size, "buffer": kinds[i % 5], "parts": parts}
        rows.append({**row, "limits": {"max_sectors_kb": 1280 >> i % 3}, "first": ""})
    rows[17]["parts"] |= {"bios": False, "events": False}
    rows[17]["first"] = "bios[1]: predicted sector 4096: 256 vectors, recorded nothing"
    rows[23]["parts"] |= {"events": None}
    return list(rows)


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(sample()), ACT)}\n")


if __name__ == "__main__":
    main()
