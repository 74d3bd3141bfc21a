"""Numbers of hardware, out of TOML files in which each stands beside its origin."""

import errno
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.errors import BadInput


def numbers(path: Path, key: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return the number `key` of each table in `kinds`, which says int or float, from the TOML file at `path`.

    Raises BadInput for a file that is broken, and for a number that is missing, negative, of another kind or without
    an origin.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as bad:
        raise BadInput("hardware", str(path), f"cannot be read: {bad}", errno.EINVAL) from None
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
