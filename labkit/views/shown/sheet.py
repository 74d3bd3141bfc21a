"""What is shown of an object: title, tags, the way of its bytes, facts, a strip, tables; as text and as HTML."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from labkit.views.shown import strip as strips
from labkit.views.shown import table as tables
from labkit.views.shown.strip import Strip
from labkit.views.shown.table import Table, plain

_ORIGINS = ("proposed", "upstream", "ours", "measured")
"""First words of a tag that have a look of their own."""
_LONGEST = 1000
"""Characters of a sentence."""
STYLE = (Path(__file__).parent / "sheet.css").read_text("utf-8")
"""How a sheet looks; ink is the page's own, so that light and dark follow the theme."""


@dataclass(frozen=True)
class Sheet:
    """What is shown of an object. Every string of it may come from a file: all are escaped."""

    title: str
    tags: tuple[str, ...] = ()
    """Words that label it: upstream, proposed, ours, simulated, measured, recorded, the kernel."""
    way: tuple[tuple[str, str], ...] = ()
    """What bytes go through, in order: a name and a detail each."""
    facts: tuple[tuple[str, str], ...] = ()
    strip: Strip | None = None
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it as text."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield plain(self.title)
        if self.tags:
            yield " ".join(f"[{plain(tag)}]" for tag in self.tags)
        if self.way:
            yield " → ".join(plain(f"{name} ({detail})" if detail else name) for name, detail in self.way)
        wide = max((len(name) for name, _ in self.facts), default=0)
        yield from (f"  {name:{wide}}  {plain(value, _LONGEST)}" for name, value in self.facts)
        for found in self.tables:
            yield from tables.text(found)
        yield from (plain(note, _LONGEST) for note in self.notes)

    @property
    def html(self) -> str:
        """Return it as HTML with its style, for a page of any theme."""
        tags = "".join(f"<span{_look(tag)}>{_safe(tag)}</span>" for tag in self.tags)
        steps = "".join(
            f"<li><span>{_safe(name)}<small>{_safe(detail)}</small></span></li>" for name, detail in self.way
        )
        facts = "".join(f"<dt>{_safe(name)}</dt><dd>{_safe(value)}</dd>" for name, value in self.facts)
        parts = (
            f"<p class=title>{_safe(self.title)}</p>",
            f"<p class=tags>{tags}</p>" if tags else "",
            f"<ol class=way>{steps}</ol>" if steps else "",
            f"<dl>{facts}</dl>" if facts else "",
            strips.html(self.strip) if self.strip else "",
            *(f"<div class=scroll>{tables.html(found)}</div>" for found in self.tables),
            *(f"<p class=note>{_safe(note)}</p>" for note in self.notes),
        )
        return f"<div class=labkit-sheet><style>{STYLE}</style>{''.join(parts)}</div>"

    @property
    def bundle(self) -> dict[str, str]:
        """Return it as text and as HTML, by their mime types."""
        return {"text/plain": str(self), "text/html": self.html}


def _safe(value: str) -> str:
    return escape(plain(value, _LONGEST))


def _look(tag: str) -> str:
    word = tag.partition(" ")[0]
    return f' class="{word}"' if word in _ORIGINS else ""
