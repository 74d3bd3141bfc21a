"""Runs of a buffer become units, each drawn as one: a run, or a bundle of neighbours; and what is said of each."""

from collections.abc import Sequence
from typing import NamedTuple

from labkit.units import PAGE_SHIFT, human_bytes
from labkit.views.fold import HUES
from labkit.views.frame_facts import Bio, Folio, Run, Takers, folio_of
from labkit.views.steps import Step
from labkit.views.words import address, capital, count

MOST = 300
"""Runs, frames, and vectors that are drawn one by one: of more, neighbours are bundled (1,500 shapes in all)."""
_PAGEMAP = "pagemap_read"


class Unit(NamedTuple):
    """Neighbouring runs that are drawn as one."""

    runs: tuple[Run, ...]
    first: int
    role: str


def units(found: Sequence[Run], taken: Sequence[Bio]) -> list[Unit]:
    """Return what is drawn as one: a run each, or bundles of neighbours; in the look of the bio that took it."""
    size, takers = max(-(-len(found) // MOST), 1), Takers.of(taken)
    bundles = [tuple(found[at : at + size]) for at in range(0, len(found), size)]
    return [Unit(mine, i * size, _role(mine, takers, len(taken))) for i, mine in enumerate(bundles)]


def _role(mine: Sequence[Run], takers: Takers, bios: int) -> str:
    """Return the look of runs: absent, that of their bio, grey where several took them, or none of many."""
    if mine[0].pfn < 0:
        return "absent"
    numbers = set[int]().union(*(takers.of_run(run) for run in mine if run.pfn >= 0))
    if bios < 2:  # noqa: PLR2004 - looks tell bios apart
        return "mapped"
    return f"rq{numbers.pop() % HUES}" if len(numbers) == 1 else "vec0"


def steps(units: Sequence[Unit], found: Sequence[Run], large: Sequence[Folio], taken: Sequence[Bio]) -> list[Step]:
    """Return a step for each unit, in the order of user memory, and then one for each bio."""
    out = [
        Step(address(unit.runs[0].va), which(unit, len(found)), _sentence(unit, found, large), _PAGEMAP)
        for unit in units
    ]
    for number, bio in enumerate(taken):
        clock = f"sector {bio.sector:,}"
        text = f"{human_bytes(bio.nbytes)} in {count(len(bio.vecs), 'vector')}: {_longest(bio)}."
        out.append(Step(clock, f"bio {number + 1} of {len(taken)}", text, "submit_bio"))
    return out


def which(unit: Unit, total: int) -> str:
    """Return which of all runs a unit is."""
    last = unit.first + len(unit.runs)
    return f"run {last} of {total:,}" if len(unit.runs) == 1 else f"runs {unit.first + 1:,} to {last:,}"


def _longest(bio: Bio) -> str:
    if not bio.vecs:
        return "where its memory lies is not known"
    addr, nbytes = max(bio.vecs, key=lambda vec: vec[1])
    return f"the longest is {human_bytes(nbytes)} at {address(addr)}"


def _sentence(unit: Unit, found: Sequence[Run], large: Sequence[Folio]) -> str:
    """Return what is said of a unit: where it lies, of which folio it is, and how far it is to the next one."""
    one = unit.runs[0]
    if len(unit.runs) > 1:
        pages = sum(run.pages for run in unit.runs)
        lost = sum(run.pages for run in unit.runs if run.pfn < 0)
        text = f"{len(unit.runs)} runs of {pages} pages in all; the first lies at {where(one)}"
        return f"{text}{f'; {lost} pages are not there' if lost else ''}."
    if one.pfn < 0:
        return f"{capital(count(one.pages, 'page'))} without a frame: not there, or nothing that can be pinned."
    folio = folio_of(one.pfn, large)
    kind = f"in a folio of {human_bytes(folio.pages << PAGE_SHIFT)}" if folio else "each a folio of its own"
    if one.pages == 1 and not folio:
        kind = "a folio of its own"
    return f"{capital(count(one.pages, 'page'))} at {where(one)}, {kind}{_jump(unit, found)}."


def where(run: Run) -> str:
    """Return the frame that a run begins with."""
    return f"PFN {run.pfn:#x}" if run.pfn >= 0 else "no frame"


def _jump(unit: Unit, found: Sequence[Run]) -> str:
    """Return how far it is from the end of a run to where user memory goes on."""
    after = found[unit.first + 1] if unit.first + 1 < len(found) else None
    one = unit.runs[0]
    if after is None or after.pfn < 0:
        return ""
    far = after.pa - one.pa - one.nbytes
    if not far:
        return "; the next frame follows, its user page does not"
    return f"; the next page lies {human_bytes(abs(far))} {'further up' if far > 0 else 'down'}"
