"""Records are appended here, and whoever watches is told."""

import logging
from collections.abc import Callable
from typing import Any

from labkit.trace.events import RECORDS, Record

Raw = tuple[Any, ...]
"""A record as layers emit it: the name of its type, then its fields. A plain tuple of numbers is made in a sixth of the
time of a NamedTuple, and the garbage collector forgets it; `Tracer.records` gives each its type back."""
Emit = Callable[[Raw], None]
Sink = Callable[[Record], None]
Struck = Callable[[BaseException], None]
"""Takes an interruption (Ctrl-C) that came while a watcher was told: raises it, now or when it can be borne."""
_log = logging.getLogger(__name__)


class Tracer:
    """A list of records in the order of time, and the sinks that see each one as it comes.

    Who watches is settled at the start: with nobody, `emit` is the list's own append, and the hot path pays for one
    call and no test. Layers keep `emit`, not the tracer.
    """

    def __init__(self, *sinks: Sink, struck: Struck | None = None) -> None:
        """Tell `sinks` of every record. One that raises is dropped and logged; the run goes on.

        What is no Exception, as Ctrl-C, goes to `struck`, and comes out of `emit` at once where there is none.
        """
        self.raw: list[Raw] = []
        """What was emitted since `records` was looked at."""
        self._typed: list[Record] = []
        self._sinks, self._struck = list(sinks), struck or _raise
        self.emit: Emit = self._append_and_tell if sinks else self.raw.append

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record so far, as its type. Raises TypeError for one that does not fit it.

        A record gets its type once, and its raw form goes then: two traces of one run share their records.
        """
        self._typed += [typed(raw) for raw in self.raw]
        self.raw.clear()
        return tuple(self._typed)

    def _append_and_tell(self, raw: Raw) -> None:
        self.raw.append(raw)
        record = typed(raw)
        for sink in tuple(self._sinks):
            try:
                sink(record)
            except Exception:  # noqa: BLE001 - whatever a watcher does wrong, the IO goes on
                _log.exception("a sink raised on %s and is dropped", type(record).__name__)
                self._sinks.remove(sink)
            except BaseException as bad:  # noqa: BLE001 - a record is told in the midst of a change
                self._struck(bad)


def _raise(bad: BaseException) -> None:
    raise bad


def typed(raw: Raw) -> Record:
    """Return `raw` as a record of the type that it names."""
    return RECORDS[raw[0]](*raw[1:])
