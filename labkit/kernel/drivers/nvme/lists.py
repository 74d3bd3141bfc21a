"""PRP lists and SGLs in memory that driver and controller share."""

import struct
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

from labkit.errors import SyscallError
from labkit.hardware.nvme.spec import SGL_BYTES, SGL_LAST_SEGMENT, SGL_TYPE_SHIFT
from labkit.hardware.ram import RAM
from labkit.kernel.dma.pool import Block, DmaPool
from labkit.kernel.drivers.nvme.encode import DataPointer
from labkit.kernel.drivers.nvme.prp import prp_lists
from labkit.scatter.payload import Range

_TOLD = 512
"""Bytes of each list that the trace is told."""


class Written(NamedTuple):
    """The data pointer of a command, the blocks that its lists took, and what is told of them."""

    low: int
    """PRP1, or the address of an SGL descriptor."""
    high: int = 0
    """PRP2, or the other half of the descriptor."""
    blocks: tuple[Block, ...] = ()
    told: str = ""


class Lists:
    """A pool, and the memory that it is in."""

    def __init__(self, ram: RAM, pool: DmaPool) -> None:
        """Take blocks from `pool`, whose bytes are in `ram`."""
        self.ram, self.pool = ram, pool

    def write(self, pointer: DataPointer) -> Written:
        """Write what `pointer` needs beyond the command itself. Raises SyscallError ENOMEM, with nothing taken."""
        prps = pointer.prps
        if pointer.encoding == "prp":
            if len(prps) > 2:  # noqa: PLR2004 - PRP1 and PRP2
                return self._chained(prps)
            return Written(prps[0] if prps else 0, prps[1] if len(prps) > 1 else 0)
        if pointer.encoding == "sgl1":
            ((addr, nbytes),) = pointer.sgl
            return Written(addr, nbytes)
        return self._segment(pointer.sgl, pointer.room)

    def free(self, blocks: Sequence[Block]) -> None:
        """Take `blocks` back."""
        for block in blocks:
            self.pool.free(block)

    def _chained(self, prps: Sequence[int]) -> Written:
        """Write all but the first of `prps` into lists, each of which leads to the next (NVME-5)."""
        chunks = prp_lists(len(prps) - 1)
        blocks = self._alloc(chunks)
        following = [self.pool.dma + block.offset for block in blocks[1:]]
        told, at = [], 1
        for block, chunk, after in zip_longest(blocks, chunks, following):
            take = chunk if after is None else chunk - 1
            told.append(self._put(block, [*prps[at : at + take], *([] if after is None else [after])]))
            at += take
        return Written(prps[0], self.pool.dma + blocks[0].offset, tuple(blocks), " ".join(told))

    def _segment(self, sgl: Sequence[Range], room: int) -> Written:
        """Write `sgl` into one segment, the last one; a type of 0 is a data descriptor (NVME-7)."""
        block = self.pool.alloc(SGL_BYTES * room)
        told = self._put(block, list(chain.from_iterable(sgl)))
        rest = SGL_BYTES * len(sgl) | SGL_LAST_SEGMENT << SGL_TYPE_SHIFT
        return Written(self.pool.dma + block.offset, rest, (block,), told)

    def _put(self, block: Block, words: Sequence[int]) -> str:
        """Write `words` of 8 bytes into `block`; return what the trace is told of it."""
        raw = struct.pack(f"<{len(words)}Q", *words)
        self.ram.view(self.pool.phys + block.offset, len(raw))[:] = raw
        return f"{self.pool.dma + block.offset:#x}:{raw[:_TOLD].hex()}"

    def _alloc(self, chunks: Sequence[int]) -> list[Block]:
        """Take a block for each of `chunks` entries, or none. Raises SyscallError ENOMEM."""
        blocks: list[Block] = []
        try:
            for chunk in chunks:
                blocks.append(self.pool.alloc(8 * chunk))  # noqa: PERF401 - the ones before a failure must be known
        except SyscallError:
            self.free(blocks)
            raise
        return blocks
