"""A split virtqueue as its driver sees it: a table of descriptors, a ring of heads to do, and a ring of heads done."""

import errno
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.hardware.ram import RAM
from labkit.hardware.virtio_blk import DESC, DESC_F_INDIRECT, DESC_F_NEXT, INDEX, RING_HEADER, USED
from labkit.kernel.dma.pool import Block, DmaPool

_ALIGN = 4


class Entry(NamedTuple):
    """One stretch of memory of a chain: bus address, bytes, and DESC_F_WRITE where the device writes to it."""

    addr: int
    len: int
    flags: int


class Chain(NamedTuple):
    """What a request has of the ring: its descriptors, the first of which is its head, and its table if it has one."""

    slots: tuple[int, ...]
    table: Block | None

    @property
    def head(self) -> int:
        """The slot that names the chain."""
        return self.slots[0]


class Vring:
    """`num` descriptors (a power of two) at physical `phys`, and the memory for indirect tables (VIO-1)."""

    def __init__(self, ram: RAM, phys: int, num: int, tables: DmaPool | None) -> None:
        """Lay the rings out in `ram`; `tables`: where indirect tables come from, None where the device takes none."""
        self.ram, self.num, self.tables = ram, num, tables
        self.desc, self.avail = phys, phys + DESC.size * num
        self.used = -(-(self.avail + RING_HEADER + 2 * num + 2) // _ALIGN) * _ALIGN
        self._free = list(range(num - 1, -1, -1))
        self._next = self._last_used = 0

    @staticmethod
    def size(num: int) -> int:
        """Return the bytes of the rings of `num` entries (vring_size)."""
        return (DESC.size + 2 + USED.size) * num + 2 * (RING_HEADER + 2) + _ALIGN

    @property
    def num_free(self) -> int:
        """Descriptors that nobody has."""
        return len(self._free)

    def take(self, total_sg: int) -> Chain:
        """Return room for a chain of `total_sg`: one slot with a table where that goes (VIO-1), else as many slots.

        Raises SyscallError EBUSY (-ENOSPC of virtqueue_add, BLK_STS_DEV_RESOURCE) where the ring is full (VIO-3).
        """
        table = self._table(total_sg) if total_sg > 1 and self._free else None
        need = 1 if table else total_sg
        if need > len(self._free):
            rule = f"descriptors are more than the {len(self._free)} that are free (VIO-3)"
            raise SyscallError("virtqueue", str(need), rule, errno.EBUSY)
        return Chain(tuple(self._free.pop() for _ in range(need)), table)

    def free(self, chain: Chain) -> None:
        """Take the room of `chain` back (detach_buf)."""
        self._free.extend(reversed(chain.slots))
        if chain.table and self.tables:
            self.tables.free(chain.table)

    def table_at(self, chain: Chain) -> int:
        """Return the physical address of the table of `chain`."""
        return self.tables.phys + chain.table.offset if self.tables and chain.table else 0

    def write(self, chain: Chain, entries: Sequence[Entry]) -> bytes:
        """Write `entries` into the table of `chain`, or into its slots; return the bytes of the descriptors."""
        if chain.table:
            raw = _linked(entries, range(len(entries)))
            self.ram.scatter(((self.table_at(chain), len(raw)),), raw)
            return raw
        raw = _linked(entries, chain.slots)
        for at, slot in enumerate(chain.slots[: len(entries)]):
            self._put(slot, raw[at * DESC.size : (at + 1) * DESC.size])
        return raw

    def lead(self, chain: Chain, table: int, nbytes: int) -> None:
        """Let the slot of `chain` lead to its table, whose bus address is `table`."""
        self._put(chain.head, DESC.pack(table, nbytes, DESC_F_INDIRECT, 0))

    def offer(self, head: int) -> None:
        """Put `head` into the available ring, and move its index on."""
        self.ram.view(self.avail + RING_HEADER + 2 * (self._next % self.num), 2)[:] = INDEX.pack(head)
        self._next = (self._next + 1) & 0xFFFF
        self.ram.view(self.avail + 2, 2)[:] = INDEX.pack(self._next)

    def take_used(self) -> Iterator[tuple[int, int]]:
        """Yield (head, bytes written) of every chain that the device has put into the used ring since."""
        while self._last_used != INDEX.unpack(self.ram.view(self.used + 2, 2))[0]:
            at = self.used + RING_HEADER + USED.size * (self._last_used % self.num)
            self._last_used = (self._last_used + 1) & 0xFFFF
            head, written = USED.unpack(self.ram.view(at, USED.size))
            yield head, written

    def _table(self, total_sg: int) -> Block | None:
        """Return memory for a table; None where there is none, and the ring's own descriptors must do."""
        if self.tables is None:
            return None
        try:
            return self.tables.alloc(total_sg * DESC.size)
        except SyscallError:
            return None

    def _put(self, slot: int, raw: bytes) -> None:
        self.ram.view(self.desc + slot * DESC.size, DESC.size)[:] = raw


def _linked(entries: Sequence[Entry], slots: Sequence[int]) -> bytes:
    """Return the descriptors of `entries`, each of which leads to the next of `slots`."""
    last = len(entries) - 1
    return b"".join([
        DESC.pack(addr, n, flags | (DESC_F_NEXT if at < last else 0), slots[at + 1] if at < last else 0)
        for at, (addr, n, flags) in enumerate(entries)
    ])  # fmt: skip
