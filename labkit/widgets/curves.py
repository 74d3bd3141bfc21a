"""Ribbons become outlines: level where they leave and where they arrive."""

from typing import Any

import numpy as np

from labkit.views.shapes import Columns

_STEPS = np.linspace(0, 1, 24)
_EASE = _STEPS**3 * (_STEPS * (6 * _STEPS - 15) + 10)
"""A quintic smoothstep."""


def curves(ribbons: Columns) -> dict[str, list[Any]]:
    """Return the outlines of ribbons as columns `xs` and `ys`."""
    xs, ys = [], []
    for x0, a0, a1, x1, b0, b1 in zip(*(ribbons[name] for name in ("x0", "a0", "a1", "x1", "b0", "b1")), strict=True):
        x, top, bottom = x0 + (x1 - x0) * _STEPS, a0 + (b0 - a0) * _EASE, a1 + (b1 - a1) * _EASE
        xs.append(np.concatenate([x, x[::-1]]).astype(np.float32))
        ys.append(np.concatenate([top, bottom[::-1]]).astype(np.float32))
    return {"xs": xs, "ys": ys}
