"""What has names in a machine: its block device, and the files of a filesystem on it."""

import errno
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock, Steps
from labkit.hardware.cpu import Cpu
from labkit.hardware.ram import RAM
from labkit.kernel.dio import DirectIO
from labkit.kernel.fs.bdev import BlockDeviceFile
from labkit.kernel.fs.cache.completion import Completion
from labkit.kernel.fs.cache.page_cache import PageCache
from labkit.kernel.fs.extents import Row
from labkit.kernel.fs.filesystem import TAKEN, Filesystem
from labkit.kernel.fs.inode import Inode
from labkit.kernel.fs.iomap import IOMAP_ZERO_PAGE_SIZE, IomapFile
from labkit.kernel.fs.ops import File
from labkit.kernel.fs.resize import Resizer
from labkit.kernel.mm.backing.filemap import AddressSpace
from labkit.kernel.mm.frames.frames import Frames
from labkit.machine.stack import Disk
from labkit.scatter.payload import Range, Ranges
from labkit.task import Openable
from labkit.units import PAGE_SIZE, PhysAddr

MOUNT = "/mnt/"
_ZERO_ORDER = (IOMAP_ZERO_PAGE_SIZE // PAGE_SIZE).bit_length() - 1


class Parts(Protocol):
    """As much of a machine as its files need."""

    clock: Clock
    cpu: Cpu
    ram: RAM
    frames: Frames
    dio: DirectIO


class FileVolume:
    """The device by its path in /dev, and the files of one filesystem below /mnt/."""

    def __init__(self, parts: Parts, disk: Disk, alloc: Callable[[int], PhysAddr], completion: Completion) -> None:
        """Stand on `disk` in the machine of `parts`; `alloc(order)` gives memory that the kernel keeps."""
        self.parts, self.disk, self._alloc, self._completion = parts, disk, alloc, completion
        self.filesystem: Filesystem | None = None
        self._zeros: PhysAddr | None = None
        self._open: dict[str, Openable] = {}
        name = disk.path.rpartition("/")[2]
        self.bdev = BlockDeviceFile(name, disk.nbytes, disk.device, parts.dio.by)

    def mkfs(
        self, kind: str, *, fragmentation: float = 0.0, seed: int = 0, nbytes: int | None = None, taken: int = TAKEN
    ) -> Filesystem:
        """Make a filesystem of `kind` on the device, empty. Raises BadInput EINVAL, SyscallError EBUSY for a second."""
        if self.filesystem is not None:
            raise SyscallError("mkfs", self.disk.path, "has a filesystem already", errno.EBUSY)
        size, limits = min(nbytes or self.disk.nbytes, self.disk.nbytes), self.disk.device.limits
        self.filesystem = Filesystem(size, kind, limits=limits, fragmentation=fragmentation, seed=seed, taken=taken)
        return self.filesystem

    def create(
        self, name: str, nbytes: int = 0, *, extents: Iterable[Row] | None = None, inline: bool = False
    ) -> Inode:
        """Make a file of `nbytes` bytes, whose path is /mnt/`name`. Errors: Filesystem.create, ENODEV without one."""
        return self._fs("open", name).create(name, nbytes, extents=extents, inline=inline)

    def find(self, path: str, *, create: bool = False) -> Openable:
        """Return what is at `path`; every task that opens it shares it. Raises SyscallError ENOENT, ENODEV, ENOSPC."""
        if path not in self._open:
            if path == self.disk.path:
                cache, mapping = self._cache(path, self.bdev)
                self.bdev.cache = cache
                self._open[path] = Openable(self.bdev, cache, mapping)
            elif path.startswith(MOUNT):
                self._open[path] = self._file(path.removeprefix(MOUNT), create=create)
            else:
                here = [self.disk.path, *(MOUNT + name for name in self._names())]
                raise SyscallError("open", repr(path), f"is not there, only {', '.join(here)}", errno.ENOENT)
        return self._open[path]

    def truncate(self, path: str, nbytes: int) -> None:
        """Make the file at `path` `nbytes` long; half a block at the old or the new end is zeroed through its cache.

        Errors: Resizer.truncate, ENOENT, ENODEV.
        """
        inode = self.inode(path)
        half = nbytes != inode.i_size and min(nbytes, inode.i_size) % inode.block_size
        if path in self._open or half:
            self._change(path, lambda file: file.truncate(0, nbytes))
        else:
            inode.truncate(nbytes)

    def punch_hole(self, path: str, pos: int, nbytes: int) -> None:
        """Let bytes [pos, pos + nbytes) of the file at `path` be a hole. Errors: Resizer.punch_hole, ENOENT, ENODEV."""
        self.inode(path)
        self._change(path, lambda file: file.punch_hole(0, pos, nbytes))

    def inode(self, path: str) -> Inode:
        """Return the file at `path`. Raises SyscallError ENOENT, ENODEV."""
        return self._fs("stat", path).open(path.removeprefix(MOUNT))

    def size(self, path: str) -> int:
        """Return the bytes of what is at `path` (i_size). Raises SyscallError ENOENT, ENODEV."""
        return self._at(path).i_size

    def caches(self) -> Iterator[PageCache]:
        """Yield the page cache of everything that is open."""
        for each in self._open.values():
            if isinstance(each.cache, PageCache):
                yield each.cache

    def peek(self, path: str, pos: int, nbytes: int) -> bytes:
        """Return what the medium holds of bytes [pos, pos + nbytes) of `path`; holes and unwritten parts are zeros."""
        return b"".join(bytes(n) if addr < 0 else self.disk.peek(addr, n) for addr, n in self._where(path, pos, nbytes))

    def poke(self, path: str, pos: int, data: bytes) -> None:
        """Set what the medium holds of `path` from byte `pos` on; what lies nowhere is passed over."""
        at = 0
        for addr, n in self._where(path, pos, len(data)):
            if addr >= 0:
                self.disk.poke(addr, data[at : at + n])
            at += n

    def _where(self, path: str, pos: int, nbytes: int) -> Iterator[Range]:
        """Yield (byte of the device or -1, bytes) of a part of a file, or of a device, up to its end."""
        file, end = self._at(path), pos + nbytes
        if path == self.disk.path:
            end = min(end, self.disk.nbytes)
        while pos < end:
            found = file.iomap_begin(pos, end - pos, write=False, direct=False)
            n = min(end, found.offset + found.length) - pos
            yield (found.addr + pos - found.offset if found.type in {"mapped", "inline"} else -1), n
            pos += n

    def _file(self, name: str, *, create: bool) -> Openable:
        fs = self._fs("open", name)
        inode = fs.create(name) if create and name not in fs.files else fs.open(name)
        if self._zeros is None:
            self._zeros = self._alloc(_ZERO_ORDER)
        (cache, mapping), parts = self._cache(MOUNT + name, inode), self.parts
        file = IomapFile(MOUNT + name, inode, cache, self.disk.device, parts.dio.by, self._zeros)
        return Openable(file, cache, mapping, Resizer(parts.clock, inode, cache))

    def _cache(self, path: str, inode: File) -> tuple[PageCache, AddressSpace]:
        """Return a page cache for the file at `path`, and the same as a mapping of the file sees it."""
        parts = self.parts
        mapping = AddressSpace(parts.frames, path, inode.i_size, backed=True)
        cache = PageCache(
            parts.clock,
            parts.cpu,
            mapping,
            inode,
            self.disk.device,
            parts.dio.emit,
            self._completion,
            parts.dio.by.bios,
        )
        mapping.bring = partial(cache.fault, 0)
        mapping.fill = lambda pos, runs: self._bring(path, pos, runs)
        mapping.drain = lambda pos, runs: self.poke(path, pos, parts.ram.gather(runs))
        return cache, mapping

    def _change(self, path: str, work: Callable[[Resizer], Steps]) -> None:
        """Let the clock run until the file at `path` is changed."""
        resizer = self.find(path).resizer
        if resizer is not None:
            self.parts.clock.run(until=self.parts.clock.job(work(resizer)))

    def _bring(self, path: str, pos: int, runs: Ranges) -> None:
        """Fill fresh folios from the medium: a fault takes no time here, and needs no request (simplified)."""
        nbytes, size = sum(n for _, n in runs), self.size(path)
        data = self.peek(path, pos, max(0, min(nbytes, size - pos)))
        self.parts.ram.scatter(runs, data + bytes(nbytes - len(data)))

    def _at(self, path: str) -> File:
        return self.bdev if path.startswith("/dev/") else self.inode(path)

    def _names(self) -> Iterable[str]:
        return self.filesystem.files if self.filesystem is not None else ()

    def _fs(self, call: str, what: str) -> Filesystem:
        if self.filesystem is None:
            raise SyscallError(call, repr(what), "is on no filesystem: the scenario has fs='raw'", errno.ENODEV)
        return self.filesystem
