"""Pairs of numbers become a small drawing that needs no library, and a table where there is no screen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDE, _TALL = 520, 240
_LEFT, _RIGHT, _TOP, _BASE = 90, 490, 34, 194
"""Where the points lie, in pixels."""
_BLUE = "#0072b2"
"""Okabe and Ito's; the rest is in the colour of the page's own text, light or dark."""


@dataclass(frozen=True, repr=False)
class Plot:
    """Points (x, y), y from 0 up, joined by lines; `x` and `y` say what is measured, in what."""

    points: Sequence[tuple[float, float]]
    x: str
    y: str

    def __repr__(self) -> str:
        """Return the points as a table."""
        rows = (f"{x:>12g} {y:>12g}" for x, y in self.points)
        return "\n".join((f"{self.y} against {self.x}", *rows))

    def _repr_html_(self) -> str:
        """Return the drawing; who cannot see it is told the points."""
        at = [(self._px(x), self._py(y)) for x, y in self.points]
        line = " ".join(f"{px},{py}" for px, py in at)
        dots = "".join(f'<circle cx="{px}" cy="{py}" r="4" fill="{_BLUE}"/>' for px, py in at)
        above = "".join(_text(px, py - 9, f"{y:g}") for (px, py), (_, y) in zip(at, self.points, strict=True))
        below = "".join(_text(px, _BASE + 16, f"{x:g}") for (px, _), (x, _) in zip(at, self.points, strict=True))
        told = "; ".join(f"{x:g}: {y:g}" for x, y in self.points)
        return (
            f'<svg role="img" aria-label="{escape(f"{self.y} against {self.x}: {told}")}" width="{_WIDE}" '
            f'viewBox="0 0 {_WIDE} {_TALL}" style="max-width:100%"><path d="M64 {_TOP}V{_BASE}H512" fill="none" '
            f'stroke="currentColor" opacity="0.4"/><polyline points="{line}" fill="none" stroke="{_BLUE}" '
            f'stroke-width="2"/>{dots}{above}{below}{_text((_LEFT + _RIGHT) // 2, _TALL - 8, self.x)}'
            f'<g transform="translate(26 {(_TOP + _BASE) // 2}) rotate(-90)">{_text(0, 0, self.y)}</g></svg>'
        )

    def _px(self, x: float) -> int:
        low, high = min(x for x, _ in self.points), max(x for x, _ in self.points)
        return round(_LEFT + (x - low) / ((high - low) or 1) * (_RIGHT - _LEFT))

    def _py(self, y: float) -> int:
        return round(_BASE - y / (max(y for _, y in self.points) or 1) * (_BASE - _TOP))


_LOOKS = (("#0072b2", "none", 7), ("#d55e00", "7 4", 3), ("#009e73", "2 4", 2))
"""Colour, dash and width of each line: nobody needs all three, and where lines lie on each other all are seen."""


@dataclass(frozen=True, repr=False)
class Curves:
    """Up to three lines over one axis, each by its name; `x` and `y` say what is measured, in what."""

    lines: Mapping[str, Sequence[tuple[float, float]]]
    x: str
    y: str

    def __repr__(self) -> str:
        """Return the points as a table with a column for each line."""
        head = f"{self.x:>14}" + "".join(f"{name:>12}" for name in self.lines)
        points = zip(*self.lines.values(), strict=True)
        rows = (f"{row[0][0]:>14g}" + "".join(f"{y:>12g}" for _, y in row) for row in points)
        return "\n".join((self.y, head, *rows))

    def _repr_html_(self) -> str:
        """Return the drawing; who cannot see it is told the points."""
        whole = Plot([point for line in self.lines.values() for point in line], self.x, self.y)
        looks = zip(self.lines.items(), _LOOKS, strict=False)
        drawn = "".join(self._line(whole, i, *line, look) for i, (line, look) in enumerate(looks))
        told = "; ".join(f"{name} {', '.join(f'{x:g}: {y:g}' for x, y in line)}" for name, line in self.lines.items())
        first = next(iter(self.lines.values()))
        below = "".join(_text(whole._px(x), _BASE + 16, f"{x:g}") for x, _ in first)  # noqa: SLF001 - of this module
        most = max(y for line in self.lines.values() for _, y in line)
        marks = "".join(_text(44, whole._py(y) + 4, f"{y:g}") for y in (0, most / 2, most))  # noqa: SLF001
        return (
            f'<svg role="img" aria-label="{escape(f"{self.y} against {self.x}: {told}")}" width="{_WIDE + 100}" '
            f'viewBox="0 0 {_WIDE + 100} {_TALL}" style="max-width:100%"><path d="M64 {_TOP}V{_BASE}H512" fill="none" '
            f'stroke="currentColor" opacity="0.4"/>{drawn}{below}{marks}'
            f"{_text((_LEFT + _RIGHT) // 2, _TALL - 8, self.x)}{_text((_LEFT + _RIGHT) // 2, 16, self.y)}</svg>"
        )

    def _line(
        self, whole: Plot, row: int, name: str, line: Sequence[tuple[float, float]], look: tuple[str, str, int]
    ) -> str:
        """Return one line, and its name beside its end; names that would lie on each other go under each other."""
        at = [(whole._px(x), whole._py(y)) for x, y in line]  # noqa: SLF001 - of this module
        points, (colour, dash, wide) = " ".join(f"{px},{py}" for px, py in at), look
        dots = "".join(f'<circle cx="{px}" cy="{py}" r="{wide / 2 + 2:g}" fill="{colour}"/>' for px, py in at)
        key = 40 + 20 * row
        return (
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{wide}" '
            f'stroke-dasharray="{dash}"/>{dots}<path d="M520 {key}H548" stroke="{colour}" stroke-width="{wide}" '
            f'stroke-dasharray="{dash}"/>{_text(554, key + 4, name, "start")}'
        )


def _text(x: float, y: float, what: str, anchor: str = "middle") -> str:
    look = "font:12px sans-serif;fill:currentColor"
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" style="{look}">{escape(what)}</text>'
