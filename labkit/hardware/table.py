"""Numbers of hardware, out of TOML files in which each stands beside its origin."""

import errno
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from labkit.errors import BadInput
from labkit.units import SECTOR_SIZE

Overrides = Mapping[str, int | float]
"""Numbers that take the place of those of a profile, by name."""
Bounds = Mapping[str, tuple[float, float]]
"""The least and the greatest value of a number, by name."""
_P = TypeVar("_P")
MOST = 1 << 40
"""Ours: 18 minutes in ns, a tebibyte in bytes; a million IOs of the slowest device still fit into 63 bits."""
_CAPACITY = (SECTOR_SIZE, 1 << 42)


def numbers(path: Path, key: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return the number `key` of each table in `kinds`, which says int or float, from the TOML file at `path`.

    Raises BadInput for a file that is broken, and for a number that is missing, negative, of another kind or without
    an origin.
    """
    tables = _tables(path)
    found = {}
    for name, kind in kinds.items():
        row = tables.get(name)
        value: Any = row.get(key) if isinstance(row, dict) and row.get("origin") else None
        fits = type(value) is kind
        if not fits or value < 0:
            rule = f"needs {key} as {kind.__name__} >= 0, and an origin"
            raise BadInput("hardware", f"{path.name}: {name}", rule, errno.EINVAL)
        found[name] = value
    return found


def profile(cls: type[_P], path: Path, overrides: Overrides | None = None, bounds: Bounds | None = None) -> _P:
    """Return a `cls`, a dataclass of int and float, filled with the `value` of the table of each name at `path`.

    `overrides` go before the file and may name any of its tables, also one that is another part's. A number is from 0
    to MOST where `bounds` say nothing else; `nbytes` is whole sectors. Raises BadInput for whatever is not so, and for
    a broken file.
    """
    tables, kinds, given = _tables(path), get_type_hints(cls), dict(overrides or {})
    _check_names(path, tables, given)
    found = numbers(path, "value", {name: kind for name, kind in kinds.items() if name not in given})
    found |= {name: given[name] for name in kinds if name in given}
    limits = {"nbytes": _CAPACITY, **(bounds or {})}
    for name, kind in kinds.items():
        found[name] = _checked(f"{path.name}: {name}", kind, found[name], limits.get(name, (0, MOST)))
    if found.get("nbytes", 0) % SECTOR_SIZE:
        raise BadInput("profile", f"{path.name}: nbytes={found['nbytes']}", "is not a multiple of 512", errno.EINVAL)
    return cls(**found)


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as bad:
        raise BadInput("hardware", str(path), f"cannot be read: {bad}", errno.EINVAL) from None


def _check_names(path: Path, tables: Mapping[str, Any], given: Overrides) -> None:
    for name in given:
        if name not in tables:
            rule = f"is not one of {', '.join(sorted(tables))} in {path.name}"
            raise BadInput("profile", f"{name!r}"[:60], rule, errno.EINVAL)


def _checked(what: str, kind: type, value: float, bounds: tuple[float, float]) -> int | float:
    """Return `value` as a `kind` if it is one within `bounds`. Raises BadInput."""
    least, most = bounds
    whole = kind is int
    fits = type(value) in {int, float} and least <= value <= most  # NaN is nowhere
    if not fits or (whole and value != int(value)):
        rule = f"is not a {'whole ' if whole else ''}number from {least} to {most}"
        raise BadInput("profile", f"{what}={value}"[:80], rule, errno.EINVAL)
    return int(value) if whole else float(value)
