"""dm-crypt: what is written is encrypted into pages of its own, what is read is decrypted where it lies (dm-crypt.c).

The cipher is ours: each sector is XORed with bytes that its number and the key make. It hides nothing from anybody who
means it, and moves as many bytes through the CPU as a real one.
"""

import errno
import hashlib
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Protocol

import numpy as np

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.kernel.block.bio import BIO_MAX_VECS, NOT_OF_THE_IO, Bio
from labkit.kernel.block.consumer import BioConsumer
from labkit.kernel.block.plug import Plug
from labkit.kernel.block.stacked import MappedDevice, part_of
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.payload import Range, Ranges
from labkit.scatter.phyr import Phyr, PhyrList
from labkit.trace.tracer import Emit
from labkit.units import PAGE_SHIFT, PAGE_SIZE, SECTOR_SHIFT, SECTOR_SIZE, PhysAddr, Sector


class CpuAccess(Protocol):
    """How the CPU reads and writes memory that it has a mapping of; addresses are physical."""

    def gather(self, ranges: Iterable[Range]) -> bytes:
        """Return the bytes of `ranges`."""

    def scatter(self, ranges: Iterable[Range], data: bytes | memoryview) -> None:
        """Put `data` into `ranges`."""


class Pages(Protocol):
    """Where bounce pages come from."""

    def alloc(self, nbytes: int) -> Ranges:
        """Return ranges of `nbytes` of RAM in all, each from the start of a page. Raises SyscallError ENOMEM."""

    def free(self, ranges: Ranges) -> None:
        """Take them back."""


class Crypt(MappedDevice):
    """One device, encrypted. The CPU reads and writes every byte, so all memory must be mapped for it (D-14)."""

    needs_cpu_access = True

    def __init__(
        self, env: Clock, name: str, target: tuple[str, BioConsumer], key: bytes, ram: CpuAccess, pages: Pages,
        emit: Emit, *, page_ns: int = 0, mapped: Collection[MemoryClass] = (RAM,),
    ) -> None:  # fmt: skip
        """Encrypt with `key`, `page_ns` for each page; `mapped`: the classes of memory that the CPU can reach."""
        super().__init__(env, name, (target,), emit)
        self._key, self._ram, self._pages, self._page_ns, self._mapped = key, ram, pages, page_ns, mapped
        block = self.limits.logical_block_size
        self.limits = replace(self.limits, max_segment_size=PAGE_SIZE, dma_alignment=block - 1)

    def submit_bio(self, bio: Bio, plug: Plug | None = None) -> Steps:
        """Send `bio` on encrypted. Memory that the CPU cannot reach is refused before anything is sent (D-14)."""
        for cls, nbytes in bio.payload.classes:
            if cls not in self._mapped:
                what = f"{nbytes} bytes of {cls.kind} memory of {cls.provider or 'nobody'}"
                rule = "are not mapped for the CPU, which must encrypt them (D-14)"
                bio.endio(errno.EINVAL, SyscallError(self.name, what, rule, errno.EINVAL))
                return
        yield from super().submit_bio(bio, plug)

    def _map(self, bio: Bio, plug: Plug | None) -> Steps:
        """Send clones of 256 pages at most; a write that finds no pages ends here, with what was sent before."""
        for at in range(0, bio.nbytes, BIO_MAX_VECS << PAGE_SHIFT):
            nbytes = min(bio.nbytes - at, BIO_MAX_VECS << PAGE_SHIFT)
            sector = Sector(bio.sector + (at >> SECTOR_SHIFT))
            if bio.write:
                try:
                    yield from self._write(bio, at, nbytes, sector, plug)
                except SyscallError as bad:
                    bio.error, bio.why = bio.error or bad.errno, bio.why or bad
                    return
            else:
                yield from self._read(bio, at, nbytes, sector, plug)

    def _write(self, bio: Bio, at: int, nbytes: int, sector: Sector, plug: Plug | None) -> Steps:
        """Encrypt into pages that are given back when the clone ends (crypt_alloc_buffer, crypt_free_buffer_pages)."""
        yield self._cost(nbytes)
        pages = self._pages.alloc(nbytes)
        try:
            plain = self._ram.gather(bio.payload.slice(at, nbytes).vecs)
            self._ram.scatter(pages, self.transform(plain, sector))
            payload = PhyrList.coalesce(Phyr(PhysAddr(addr), size) for addr, size in pages)
            clone = self._clone(bio, payload, sector)
        except BaseException:
            self._pages.free(pages)
            raise
        clone.start = NOT_OF_THE_IO
        clone.end_io = lambda ended: self._written(bio, ended, pages)
        yield from self._send(clone, 0, sector, plug)

    def _written(self, bio: Bio, clone: Bio, pages: Ranges) -> None:
        self._pages.free(pages)
        bio.endio(clone.error, clone.why)

    def _read(self, bio: Bio, at: int, nbytes: int, sector: Sector, plug: Plug | None) -> Steps:
        """Read into the memory of `bio` itself; what has come is decrypted there (kcryptd_crypt_read_convert)."""
        clone = self._clone(bio, bio.payload.slice(at, nbytes), sector)
        clone.start = part_of(bio, at)
        clone.end_io = lambda ended: self.env.later(self._cost(nbytes), self._decrypt, bio, ended, sector)
        yield from self._send(clone, 0, sector, plug)

    def _decrypt(self, bio: Bio, clone: Bio, sector: Sector) -> None:
        if not clone.error:
            vecs = clone.payload.vecs
            self._ram.scatter(vecs, self.transform(self._ram.gather(vecs), sector))
        bio.endio(clone.error, clone.why)

    def _cost(self, nbytes: int) -> int:
        return self._page_ns * -(-nbytes // PAGE_SIZE)

    def transform(self, data: bytes, sector: Sector) -> bytes:
        """Return `data`, whole sectors from `sector` on, encrypted, or decrypted: it is the same."""
        numbers = range(sector, sector + len(data) // SECTOR_SIZE)
        stream = b"".join([
            hashlib.shake_128(self._key + number.to_bytes(8, "little")).digest(SECTOR_SIZE) for number in numbers
        ])  # fmt: skip
        return (np.frombuffer(data, np.uint8) ^ np.frombuffer(stream, np.uint8)).tobytes()
