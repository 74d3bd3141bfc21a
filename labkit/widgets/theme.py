"""Roles become colours, light and dark: Okabe-Ito for what must be told apart, greys for the rest.

A document is drawn in the light palette; the dark one is the same document with each colour replaced by its partner,
in the browser. That needs no two light colours to be equal, hence the neighbours such as #1B2430 and #1B2431.
"""

from math import inf

LIGHT = {
    "paper": "#FAFAF7", "ink": "#1B2430", "mid": "#56616E", "faint": "#66717D", "hair": "#DFE3E6", "card": "#FFFFFF",
    "free": "#ECEEEF", "anon": "#BCD2E8", "file": "#EADDB9", "slab": "#CBD0D8", "pagetable": "#CFC3E0",
    "nopage": "#F7EAF1", "nopage_line": "#E2BCD0", "mark": "#8A95A1",
    "hue0": "#0072B2", "hue1": "#E69F00", "hue2": "#009E73", "hue3": "#CC79A7", "hue4": "#56B4E9", "hue5": "#F0E442",
    "on0": "#FEFEFE", "on1": "#1B2431", "on2": "#0E1319", "on3": "#1B2433", "on4": "#1B2434", "on5": "#1B2435",
    "hue6": "#D55E00", "on6": "#0E1318", "hue7": "#C9CFD5", "on7": "#1B2436", "grey": "#66727F", "ongrey": "#FDFDFD",
    "dot": "#FCFCFC",
}  # fmt: skip
DARK = {
    "paper": "#12171E", "ink": "#E8ECF0", "mid": "#9AA6B2", "faint": "#8290A0", "hair": "#2A333D", "card": "#171E26",
    "free": "#252F3A", "anon": "#2F4A66", "file": "#564B2C", "slab": "#3A434E", "pagetable": "#463C5C",
    "nopage": "#2A1F2A", "nopage_line": "#5A3B50", "mark": "#66727F",
    "hue0": "#56B4E9", "hue1": "#F2B632", "hue2": "#2CC79A", "hue3": "#E39CC3", "hue4": "#3C8FD0", "hue5": "#EFE86A",
    "on0": "#0E1318", "on1": "#0E1318", "on2": "#0E1318", "on3": "#0E1318", "on4": "#0E1318", "on5": "#0E1318",
    "hue6": "#FF8A3D", "on6": "#0E1318", "hue7": "#3A444F", "on7": "#E8ECF0", "grey": "#8592A0", "ongrey": "#0E1318",
    "dot": "#EFFFF9",
}  # fmt: skip
"""Roles: `hue0` to `hue5` are phyrs, `hue6` pins, `hue7` waiting; `on...` is the ink on each; kinds are the map's."""

UI = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, system-ui, sans-serif"
MONO = "ui-monospace, 'SF Mono', Menlo, 'DejaVu Sans Mono', monospace"


def luminance(colour: str) -> float:
    """Return the relative luminance of '#RRGGBB', 0 to 1 (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]  # noqa: PLR2004 - the standard's
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2). Text wants 4.5."""
    dark, light = sorted((luminance(one), luminance(two)))
    return (light + 0.05) / (dark + 0.05)


def hue(index: int) -> str:
    """Return the role of a hue: 'grey' for a negative one."""
    return f"hue{index}" if index >= 0 else "grey"


FADE = {
    "folios": (0.0, 1.0, 1.0, 1.0, 0.0),
    "cached": (0.0, 1.0, 1.0, 1.0, 0.0),
    "user": (0.0, 1.0, 1.0, 1.0, 0.12),
    "memory": (0.0, 1.0, 1.0, 1.0, 0.45),
    "bus": (0.0, 0.85, 1.0, 0.85, 0.14),
    "disk": (0.1, 0.3, 0.3, 0.3, 0.3),
    "bands": (0.0, 0.09, 0.17, 0.10, 0.04),
    "ribbons": (0.0, 0.22, 0.46, 0.28, 0.12),
}
"""How opaque a shape is: before it is there, waiting, in flight, done, let go of."""


def state(at: float, t1: float, t2: float = inf, t3: float = inf, t4: float = inf) -> int:
    """Return the state of a shape at record `at`: 0 before it is there ... 4 let go of."""
    return 4 if at >= t4 else 3 if at >= t3 else 2 if at >= t2 else 1 if at >= t1 else 0
