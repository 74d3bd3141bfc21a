"""Records are appended here, and whoever watches is told."""

import logging
from collections.abc import Callable

from labkit.trace.events import Record

Sink = Callable[[Record], None]
_log = logging.getLogger(__name__)


class Tracer:
    """A list of records in the order of time, and the sinks that see each one as it comes.

    `emit` is the list's own append while nobody watches: the hot path pays for one call and no test.
    """

    def __init__(self) -> None:
        """Begin with no records and no sinks."""
        self.records: list[Record] = []
        self.emit: Sink = self.records.append
        self._sinks: list[Sink] = []

    def watch(self, sink: Sink) -> None:
        """Call `sink` with every record from now on. A sink that raises is dropped and logged; the run goes on."""
        self._sinks.append(sink)
        self.emit = self._append_and_tell

    def off(self) -> None:
        """Forget every record from now on, and tell nobody."""
        self.emit = _forget

    def _append_and_tell(self, record: Record) -> None:
        self.records.append(record)
        for sink in tuple(self._sinks):
            try:
                sink(record)
            except Exception:
                _log.exception("a sink raised on %s and is dropped", type(record).__name__)
                self._sinks.remove(sink)


def _forget(_record: Record) -> None:
    """Keep nothing."""
