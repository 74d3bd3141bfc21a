"""A scenario, a cursor and a selection become one line of text, and the line becomes them again.

The line is `labkit:1:` and base64url of deflated JSON: data, bounded on both sides of the decompression. It holds what
differs from the defaults, so that it means the same wherever version 1 of a scenario is understood.
"""

import base64
import binascii
import errno
import json
import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from labkit.errors import ScenarioError

VERSION = 1
MOST_CHARS = 2000
"""The longest link, in characters: what a chat, a slide or the address bar of a browser takes."""
MOST_BYTES = 16 << 10
"""The longest JSON that a link may grow to."""
MOST_SELECTED = 4096
"""The most things that a link may select."""
_SCHEME = "labkit"
_FIELDS = {"s", "t", "sel"}
_LAST = 1 << 63


class Link(NamedTuple):
    """What a link says: fields of a scenario, the cursor (ns, None for none), and which phyrs are selected."""

    values: dict[str, Any]
    t: int | None = None
    selection: tuple[int, ...] = ()


def pack(link: Link) -> str:
    """Return `link` as text. Raises ScenarioError for more than a link can hold."""
    told: dict[str, Any] = {"s": link.values} if link.values else {}
    told |= {} if link.t is None else {"t": link.t}
    told |= {"sel": _runs(link.selection)} if link.selection else {}
    data = zlib.compress(json.dumps(told, separators=(",", ":")).encode(), 9)
    text = f"{_SCHEME}:{VERSION}:{base64.urlsafe_b64encode(data).decode().rstrip('=')}"
    if len(text) > MOST_CHARS:
        raise _no(
            f"{len(text):,} characters", f"are more than {MOST_CHARS:,}: keep the scenario in a file", errno.E2BIG
        )
    unpack(text)
    return text


def unpack(text: str) -> Link:
    """Return what the link `text` says; of its scenario only that it is a table.

    Raises ScenarioError for what is no link, is of another version, is too long, or was changed on its way.
    """
    text = text.strip()
    if len(text) > MOST_CHARS:
        raise _no(f"{len(text):,} characters", f"are more than {MOST_CHARS:,}", errno.E2BIG)
    scheme, _, rest = text.partition(":")
    version, _, body = rest.partition(":")
    if scheme != _SCHEME or not body:
        raise _no(repr(text[:40]), f"is not {_SCHEME}:{VERSION}: and what follows it")
    if version != str(VERSION):
        raise _no(f"version {version[:20]!r}", f"is not {VERSION}, which is known here", errno.EPROTONOSUPPORT)
    return _checked(_parsed(_inflated(body)))


def _inflated(body: str) -> bytes:
    """Return the bytes behind `body`, of which no more than MOST_BYTES are ever made."""
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        stream = zlib.decompressobj()
        out = stream.decompress(data, MOST_BYTES + 1)
    except (ValueError, binascii.Error, zlib.error) as bad:
        raise _no(repr(body[:40]), "was cut or changed on its way") from bad
    if len(out) > MOST_BYTES:
        raise _no("the text", f"grows to more than {MOST_BYTES:,} bytes", errno.E2BIG)
    if not stream.eof or stream.unused_data:
        raise _no(repr(body[:40]), "was cut or changed on its way")
    return out


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        told = json.loads(data, parse_constant=_constant)
    except (ValueError, RecursionError) as bad:
        raise _no("the text", "is not JSON") from bad
    if not isinstance(told, dict):
        raise _no("the text", "is not a table of names and values")
    if unknown := sorted(set(told) - _FIELDS):
        raise _no(repr(unknown[0][:40]), f"is not one of {', '.join(sorted(_FIELDS))}")
    return told


def _constant(name: str) -> float:
    raise ValueError(name)


def _checked(told: dict[str, Any]) -> Link:
    values, t, runs = told.get("s", {}), told.get("t"), told.get("sel", [])
    if not isinstance(values, dict):
        raise _no("s", "is not a table of names and values")
    if t is not None and not _counts(t, _LAST):
        raise _no(f"t={_short(t)}", "is not a time in ns")
    if not isinstance(runs, list) or not all(_is_run(run) for run in runs):
        raise _no(f"sel={_short(runs)}", "is not a list of [first, how many]")
    if sum(many for _, many in runs) > MOST_SELECTED:
        raise _no("sel", f"selects more than {MOST_SELECTED:,}", errno.E2BIG)
    return Link(values, t, tuple(at for first, many in runs for at in range(first, first + many)))


def _is_run(run: object) -> bool:
    return isinstance(run, list) and len(run) == 2 and all(_counts(number, 1 << 32) for number in run)  # noqa: PLR2004 - the first, and how many


def _counts(value: object, end: int) -> bool:
    """Return whether `value` is a number from 0 up to `end`, and no bool."""
    return type(value) is int and 0 <= value < end


def _runs(selection: Iterable[int]) -> list[list[int]]:
    """Return `selection` as runs [first, how many]."""
    numbers: Sequence[int] = sorted(set(selection))
    cuts = [0, *(i for i, (a, b) in enumerate(pairwise(numbers), 1) if b != a + 1), len(numbers)]
    return [[numbers[a], b - a] for a, b in pairwise(cuts)]


def _short(value: object) -> str:
    return repr(value)[:40]


def _no(what: str, rule: str, code: int = errno.EINVAL) -> ScenarioError:
    return ScenarioError("link", what, rule, code)
