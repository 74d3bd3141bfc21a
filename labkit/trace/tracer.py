"""Records are appended here, and whoever watches is told."""

import logging
from collections.abc import Callable

from labkit.trace.events import Record

Sink = Callable[[Record], None]
_log = logging.getLogger(__name__)


class Tracer:
    """A list of records in the order of time, and the sinks that see each one as it comes.

    Who watches is settled at the start: with nobody, `emit` is the list's own append, and the hot path pays for one
    call and no test. Layers keep `emit`, not the tracer.
    """

    def __init__(self, *sinks: Sink) -> None:
        """Tell `sinks` of every record. One that raises is dropped and logged; the run goes on."""
        self.records: list[Record] = []
        self._sinks = list(sinks)
        self.emit: Sink = self._append_and_tell if sinks else self.records.append

    def _append_and_tell(self, record: Record) -> None:
        self.records.append(record)
        for sink in tuple(self._sinks):
            try:
                sink(record)
            except Exception:  # whatever a watcher does wrong, the IO goes on
                _log.exception("a sink raised on %s and is dropped", type(record).__name__)
                self._sinks.remove(sink)
