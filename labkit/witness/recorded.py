"""Memory that a capture tells of, as a currency: bios are filled by the kernel's rules, and nothing is pinned."""

import errno
from collections.abc import Sequence
from functools import partial
from itertools import takewhile

from labkit.errors import BadInput, SyscallError
from labkit.kernel.currency import fill
from labkit.kernel.currency.ops import Hold, Kiocb, Released
from labkit.kernel.version import Rules
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.payload import Payload, Range, Ranges, cut, join
from labkit.units import PAGE_SIZE
from labkit.witness.layout import Got, Layout


class Vectors:
    """The vectors of one bio, as they were filled: plain ranges, all of one class."""

    __slots__ = ("cls", "nbytes", "struct_pages", "vecs")

    def __init__(self, vecs: Ranges, nbytes: int, cls: MemoryClass = RAM) -> None:
        """Take `vecs`, `nbytes` bytes in all."""
        self.vecs, self.nbytes, self.cls = vecs, nbytes, cls
        self.struct_pages = len(vecs)

    @property
    def classes(self) -> tuple[tuple[MemoryClass, int], ...]:
        """One stretch."""
        return ((self.cls, self.nbytes),)

    def slice(self, start: int, nbytes: int) -> "Vectors":
        """Return bytes [start, start + nbytes)."""
        return Vectors(cut(self.vecs, start, nbytes), nbytes, self.cls)


class RecordedCurrency:
    """Pages of a layout; registered buffers as a table each (R17)."""

    name, policy, per_bio = "page", "none", True

    def __init__(self, layout: Layout, rules: Rules, regions: Sequence[Range] = (), provider: str = "peer") -> None:
        """Fill bios from `layout` as the kernel of `rules` does; `regions` (user address, bytes) are registered.

        `provider` is the device whose memory is among it, where any is.
        """
        self._layout, self._rules, self._regions = layout, rules, regions
        self._bar = MemoryClass("mmio", provider)
        self._tables: dict[int, tuple[Range, ...] | None] = {}
        self._tokens = 0

    def pin(self, iocb: Kiocb, start: int, nbytes: int | None = None) -> Hold:
        """Return the memory of one bio. Raises SyscallError as the kernel does where nothing can be had."""
        left = iocb.nbytes - start if nbytes is None else min(nbytes, iocb.nbytes - start)
        if iocb.buf_index is not None:
            return self._hold(self._fixed(iocb, start, left), left, RAM)
        classes: list[bool] = []
        extract = self._layout.extract
        if self._layout.bars:
            extract = partial(self._of_one_class, classes)
        filled = fill.fill(
            iocb.pieces, start, left, self._rules, iocb.limits.dma_alignment, extract, self._layout.folio_end
        )
        vecs, whole = fill.trim(filled, iocb.limits.logical_block_size)
        if not whole:
            what = f"{filled.nbytes} bytes of memory"
            raise SyscallError(iocb.call, what, "hold no logical block (BIO-5)", errno.EFAULT)
        return self._hold(vecs, whole, self._bar if True in classes else RAM)

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:  # noqa: ARG002
        """Return that nothing was let go of."""
        return Released(0, 0)

    def zero(self, iocb: Kiocb, start: int, nbytes: int, pinned: Payload | None) -> int:  # noqa: ARG002
        """Return how many of the user's bytes could be written to: nothing is, here."""
        return self._layout.reachable(cut(iocb.pieces, start, nbytes))

    def slots(self, iocb: Kiocb, start: int) -> int:
        """Return the pages that are left; none of a registered buffer, whose own table the bio takes (DIO-7)."""
        return 0 if iocb.buf_index is not None else fill.npages(fill.after(iocb.pieces, start))

    def _hold(self, vecs: Ranges, nbytes: int, cls: MemoryClass) -> Hold:
        self._tokens += 1
        kept = join([vecs])
        return Hold(Vectors(kept, nbytes, cls), nbytes, self._tokens, None, kept, 0, 0, 0, 0)

    def _of_one_class(self, classes: list[bool], addr: int, want: int) -> Got:
        """Return the pages that a bio may take: of the kind that it began with (BIO-2). Raises EREMOTEIO for others."""
        got, bar = self._layout.extract(addr, want), self._layout.is_bar
        if not classes:
            classes.append(bar(got.runs[0][0]))
        runs = tuple(takewhile(lambda run: bar(run[0]) == classes[0], got.runs))
        if not runs:
            raise SyscallError("gup", "a page of another kind", "does not go into this bio (BIO-2)", errno.EREMOTEIO)
        return Got(runs, sum(n for _, n in runs) // PAGE_SIZE)

    def _fixed(self, iocb: Kiocb, start: int, nbytes: int) -> Ranges:
        """Return a part of a registered buffer's table. Raises SyscallError EFAULT outside of it (R17)."""
        index, (addr, _) = iocb.buf_index, iocb.at(start)
        if index is None or not 0 <= index < len(self._regions):
            raise SyscallError(iocb.call, f"buf_index={index}", "is not registered", errno.EFAULT)
        base, length = self._regions[index]
        if addr < base or addr + nbytes > base + length:
            raise SyscallError(iocb.call, f"addr={addr:#x}+{nbytes}", "is not inside its registration", errno.EFAULT)
        if index not in self._tables:
            self._tables[index] = self._table(base, length)
        table = self._tables[index]
        return cut(table, addr - base, nbytes) if table is not None else self._part(addr, nbytes)

    def _table(self, base: int, length: int) -> tuple[Range, ...] | None:
        """Return the table of a registration, or None where the layout does not hold all of it."""
        try:
            return self._part(base, length)
        except BadInput:
            return None

    def _part(self, addr: int, nbytes: int) -> tuple[Range, ...]:
        """Return the vectors of registered memory. Raises BadInput where the layout does not hold it."""
        skip = addr % PAGE_SIZE
        want = -(-(skip + nbytes) // PAGE_SIZE)
        try:
            got = self._layout.extract(addr, want)
        except SyscallError:
            got = Got((), 0)
        if got.nr < want:
            rule = "is registered, and the layout does not tell where it lies"
            raise BadInput("capture", f"memory {addr:#x}+{nbytes}", rule, errno.EINVAL)
        return fill.fixed_table(got.runs, skip, nbytes, self._layout.folio, self._rules)
