"""The sub-buffers of a trace ring buffer become records: where each begins, and when it was written."""

import errno
import struct

from labkit.errors import SyscallError
from labkit.host.watch.tracefs.formats import fields

_DELTA_BITS = 27
_ABSOLUTE = (1 << 59) - 1
_PADDING, _EXTEND, _STAMP = 29, 30, 31
_COMMIT = (1 << _DELTA_BITS) - 1
_MISSED_EVENTS, _MISSED_STORED = 1 << 31, 1 << 30


class SubBuffer:
    """How a sub-buffer is laid out on this kernel: `nbytes` of it, of which the records begin at `data` (TRACE-1)."""

    def __init__(self, header_page: str) -> None:
        """Read `header_page`, the text of events/header_page. Raises SyscallError EBADMSG for what is none."""
        by_name = {field.name: field for field in fields(header_page)}
        if not {"timestamp", "commit", "data"} <= by_name.keys():
            raise SyscallError("tracefs", "events/header_page", "has no timestamp, commit or data", errno.EBADMSG)
        stamp, commit, data = by_name["timestamp"], by_name["commit"], by_name["data"]
        self.data, self.nbytes = data.offset, data.offset + data.size
        self._head = struct.Struct(f"={stamp.code}{commit.offset - stamp.size}x{commit.code}").unpack_from
        self._count = struct.Struct("=" + commit.code).unpack_from

    def missed(self, page: bytes) -> int:
        """Return how many events were lost before `page` began: 0, or 1 where the kernel does not say how many."""
        _, commit = self._head(page)
        if not commit & _MISSED_EVENTS:
            return 0
        return int(self._count(page, self.data + (commit & _COMMIT))[0]) if commit & _MISSED_STORED else 1

    def records(self, page: bytes) -> list[tuple[int, int]]:
        """Return (ns, byte in `page`) of each record, in the order in which they were begun (TRACE-2).

        Raises SyscallError EBADMSG where they do not end with what was committed.
        """
        t, commit = self._head(page)
        end = self.data + (commit & _COMMIT)
        words, at, found = memoryview(page)[: end & ~3].cast("I"), self.data >> 2, list[tuple[int, int]]()
        try:
            while at < len(words):
                kind = words[at] & 31
                if 0 < kind < _PADDING:
                    t += words[at] >> 5
                    found.append((t, at + 1 << 2))
                    at += kind + 1
                else:
                    t, record, at = _rare(words, at, t)
                    if record:
                        found.append((t, record << 2))
        except IndexError:
            at = len(page)
        if at << 2 != end:
            raise SyscallError("tracefs", f"a sub-buffer of {end} B", "has a torn record", errno.EBADMSG)
        return found


def _rare(words: memoryview, at: int, t: int) -> tuple[int, int, int]:
    """Return the time after the header at word `at`, the word where a record's data begins (0: none), the next header.

    `t` is the time before it. A time stamp has 59 bits, and those above them are the ones of `t`. Padding is a record
    that was taken back: its delta counts, but the 1 that stands for none.
    """
    kind, delta = words[at] & 31, words[at] >> 5
    if kind == _PADDING and not delta:
        return t, 0, len(words)  # the rest of the page
    after = words[at + 1]
    if kind == _EXTEND:
        return t + (after << _DELTA_BITS) + delta, 0, at + 2
    if kind == _STAMP:
        stamp = (after << _DELTA_BITS) + delta | t & ~_ABSOLUTE
        return stamp + (_ABSOLUTE + 1) * (t > stamp and t > _ABSOLUTE), 0, at + 2
    following = at + 1 + (after + 3 >> 2)
    return (t + delta * (delta > 1), 0, following) if kind == _PADDING else (t + delta, at + 2, following)
