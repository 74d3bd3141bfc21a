"""The kernel's ring buffer becomes records in their order: a map of kind RINGBUF, read through shared memory."""

import mmap
import os
from collections.abc import Iterator

from labkit.host.wait import wait_until
from labkit.host.watch.bpf import calls

_DISCARD = 1 << 30
"""A bit of a length: the record is none. The bit above it, the sign, says that it is being written."""
_HEAD = 8
"""Bytes before each record: its length, and a number of the kernel's own."""
_SECONDS = 1.0


class RingBuffer:
    """A ring of `nbytes`, a power of two of whole pages. Its `fd` is what a program writes to."""

    def __init__(self, nbytes: int) -> None:
        """Make it and map it. Raises as calls.map_create does."""
        self.fd = calls.map_create(calls.RINGBUF, 0, 0, nbytes)
        self._mask = nbytes - 1
        try:
            self._mine = mmap.mmap(self.fd, mmap.PAGESIZE)
            # The kernel maps the ring twice in a row, so that no record is in two pieces.
            self._theirs = mmap.mmap(self.fd, mmap.PAGESIZE + 2 * nbytes, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        except BaseException:
            os.close(self.fd)
            raise
        self._consumer, self._producer = memoryview(self._mine).cast("Q"), memoryview(self._theirs).cast("Q")
        self._lengths, self._data = memoryview(self._theirs).cast("i"), memoryview(self._theirs)[mmap.PAGESIZE :]

    def take(self) -> Iterator[bytes]:
        """Yield each record that was written; one that another CPU still writes is waited for, a second at most."""
        at = self._consumer[0]
        while at < self._producer[0] and wait_until(lambda: self._length() >= 0, _SECONDS):
            length, begin = self._length(), (at & self._mask) + _HEAD
            nbytes = length & ~_DISCARD
            record = bytes(self._data[begin : begin + nbytes])
            self._consumer[0] = at = at + (_HEAD + nbytes + 7 & ~7)
            if not length & _DISCARD:
                yield record

    def _length(self) -> int:
        """Return the length of the record that is next, with its bit; less than 0 while it is being written."""
        return self._lengths[mmap.PAGESIZE + (self._consumer[0] & self._mask) >> 2]

    def close(self) -> None:
        """Give it back."""
        for view in (self._consumer, self._producer, self._lengths, self._data):
            view.release()
        self._mine.close()
        self._theirs.close()
        os.close(self.fd)
