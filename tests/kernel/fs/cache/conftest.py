"""A file on a device that moves real bytes, with its page cache, and nothing else of a machine."""

import errno
from collections import Counter
from pathlib import Path

import pytest

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.ram import RAM
from labkit.host.memory.arena import arena, release
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.fs.cache.page_cache import PageCache
from labkit.kernel.fs.ops import Iomap
from labkit.kernel.mm.backing.filemap import AddressSpace, mmap_file
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.frames.folio import kept
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK
from labkit.trace.page_flags import PG_locked, PG_writeback
from labkit.trace.state import state_at
from labkit.trace.tracer import typed

CPU = Cpu.load(Path(__file__).parents[4] / "data" / "cpu.toml")
PATTERN = bytes(range(251))


class Device:
    """Takes bios and moves their bytes a microsecond later; `broken` are the directions in which it fails."""

    def __init__(self, env, ram, nbytes):
        self.env, self.ram, self.disk = env, ram, bytearray(nbytes)
        self.limits, self.needs_cpu_access = QueueLimits(), False
        self.bios, self.broken, self.flushes = [], set(), 0

    def submit_bio(self, bio, plug=None):
        yield 10
        assert plug is not None or not bio.nbytes
        self.flushes += not bio.nbytes
        if bio.nbytes:
            self.bios.append((bio.write, bio.sector, bio.nbytes))
        self.env.later(1000, self._end, bio)

    def flush(self, plug, *, from_schedule=False):
        yield from plug.flush(from_schedule=from_schedule)

    def _end(self, bio):
        at = bio.sector << 9
        if bio.write in self.broken:
            bio.endio(errno.EIO)
            return
        if bio.write:
            self.disk[at : at + bio.nbytes] = self.ram.gather(bio.payload.vecs)
        else:
            self.ram.scatter(bio.payload.vecs, bytes(self.disk[at : at + bio.nbytes]))
        bio.endio()


class File:
    """Blocks by number: a state, and a block of the device; the second half of the file lies before the first."""

    ino = 12

    def __init__(self, i_size, block_size, blocks, state):
        self.i_size, self.block_size, self.half = i_size, block_size, blocks // 2
        self.state = dict.fromkeys(range(-(-i_size // block_size)), state)
        self.blocks, self.full = blocks, False

    def _map(self, pos, length):
        first = pos // self.block_size
        state, n = self.state.get(first, "hole"), 0
        limit = self.half if first < self.half else self.blocks
        while first + n < limit and n * self.block_size < length + pos % self.block_size:
            if self.state.get(first + n, "hole") != state:
                break
            n += 1
        dev = first + self.half if first < self.half else first - self.half
        addr = dev * self.block_size if state in {"mapped", "unwritten"} else -1
        return Iomap(state, first * self.block_size, n * self.block_size, addr)

    def _all(self, pos, length, state, to):
        for block in range(pos // self.block_size, -(-(pos + length) // self.block_size)):
            if self.state.get(block, "hole") == state:
                self.state[block] = to

    def iomap_begin(self, pos, length, *, write, direct=True, nowait=False):
        if write:
            found = self._map(pos, length)
            if found.type == "hole":
                if self.full:
                    raise SyscallError("fs", "a block", "is not to be had", errno.ENOSPC)
                if nowait:
                    raise SyscallError("fs", "a block", "would have to be allocated", errno.EAGAIN)
                self._all(found.offset, found.length, "hole", "unwritten" if direct else "delalloc")
        return self._map(pos, length)

    def map_blocks(self, pos, length):
        if self.full:
            raise SyscallError("fs", "a block", "is not to be had", errno.ENOSPC)
        self._all(pos, length, "delalloc", "unwritten")
        return self._map(pos, length)

    def end_io(self, pos, nbytes, *, unwritten, extend):
        if unwritten:
            self._all(pos, nbytes, "unwritten", "mapped")
        if extend:
            self.i_size = max(self.i_size, pos + nbytes)


class User:
    """A buffer that faults after `good` bytes."""

    def __init__(self, ram, data=b"", good=1 << 60):
        self.ram, self.data, self.good, self.at = ram, bytearray(data), good, 0

    def copy_to_iter(self, ranges):
        got = self.ram.gather(ranges)[: max(0, self.good - self.at)]
        self.data += got
        self.at += len(got)
        return len(got)

    def copy_from_iter(self, ranges):
        ((addr, nbytes),) = ranges
        part = bytes(self.data[self.at : min(self.at + nbytes, self.good)])
        self.ram.scatter(((addr, len(part)),), part)
        self.at += len(part)
        return len(part)


class World:
    """One file of `nbytes` random-looking bytes, all of them on the device."""

    def __init__(self, nbytes=1 << 20, block_size=4096, state="mapped", completion="phys_to_folio", room=2 << 20):
        self.env, self.raw, self.mms = Clock(), [], []
        buddy = Buddy(64 << 20)
        self.ram = ram = RAM(arena(buddy.phys_end), release=release)

        def copy(to, source, count):
            ram.scatter(((to, count),), ram.gather(((source, count),)))

        self.frames = Frames(buddy, self.raw.append, lambda: self.env.now, ram.wipe, copy)
        self.file = File(nbytes, block_size, room // block_size, state)
        self.device = Device(self.env, ram, room)
        self.device.disk[:] = (PATTERN * (room // len(PATTERN) + 1))[:room]
        self.mapping = AddressSpace(self.frames, "data", nbytes, backed=True)
        tail = self.file.half * block_size + nbytes
        self.device.disk[tail : -(-tail // block_size) * block_size] = bytes(-tail % block_size)  # as a filesystem does
        self.cache = PageCache(
            self.env, CPU, self.mapping, self.file, self.device, self.raw.append, completion=completion
        )

    def on_disk(self, pos, nbytes):
        """Return what the device has for the file."""
        half = self.file.half * self.file.block_size
        disk = self.device.disk[half:] + self.device.disk[:half]
        return bytes(disk[pos : pos + nbytes])

    def run(self, work):
        return self.env.run(until=self.env.job(work))

    def read(self, pos, nbytes, good=1 << 60, **more):
        user = User(self.ram, good=good)
        assert self.run(self.cache.read(1, pos, nbytes, user, **more)) == len(user.data)
        return bytes(user.data)

    def write(self, pos, data, good=1 << 60, **more):
        return self.run(self.cache.write(2, pos, User(self.ram, data, good), len(data), **more))

    def verb(self, what, pos, nbytes, tag):
        """Return one of many things that are done at once."""
        match what:
            case "read":
                return self.cache.read(tag, pos, nbytes, User(self.ram))
            case "write":
                return self.cache.write(tag, pos, User(self.ram, bytes([tag]) * nbytes), nbytes)
            case "sync":
                return self.cache.write_and_wait_range(tag, pos, nbytes)
            case "drop":
                return self.cache.invalidate_range(tag, pos, nbytes)
            case "flusher" | "fsync":
                return getattr(self.cache, what)(tag)
        self.device.broken = {False, True} if what == "break" else set()
        return ()

    def sync(self, pos=0, nbytes=1 << 40):
        self.run(self.cache.write_and_wait_range(3, pos, nbytes))

    def drop(self, pos=0, nbytes=1 << 40):
        self.run(self.cache.invalidate_range(4, pos, nbytes))

    def mmap(self, nbytes, prot="rw-", **more):
        self.mms.append(Mm(self.frames, len(self.mms)))
        return self.mms[-1], mmap_file(self.mms[-1], self.mapping, nbytes, prot, **more)

    def store(self, mm, addr, data):
        """Write into a mapping, within a page."""
        vma = mm.space.find_vma(addr)
        handle_mm_fault(mm, vma, vma.page(addr), vma.page(addr) + 1, write=True)
        self.ram.scatter((((vma.table.word(vma.page(addr)) & ADDR_MASK) + addr % 4096, len(data)),), data)

    def folios(self):
        return [(folio.index, folio.order) for folio in self.mapping.folios(0, 1 << 40)]

    def records(self, name):
        return [typed(raw) for raw in self.raw if raw[0] == name]

    def look(self):
        """Assert that nothing is under way, and that the trace tells the folios as they are."""
        self.env.run()
        states = tuple(self.frames.folios.states())
        assert [state for state in states if state.flags & (PG_locked | PG_writeback)] == []
        runs = [run for mm in self.mms for run in mm.translations()]
        mapped = Counter(pa + skip for _, pa, n, _ in runs for skip in range(0, n, 4096))
        for folio in self.frames.folios.by_head.values():
            entries = sum(mapped[pa] for pa in range(folio.pfn << 12, (folio.pfn << 12) + folio.nbytes, 4096))
            assert (folio.refcount, folio.mapcount) == (kept(folio) + entries, entries)
        assert state_at([typed(raw) for raw in self.raw], self.env.now).folios == states
        assert self.frames.orphans == []
        return states


@pytest.fixture(scope="session")
def world():
    """Give the class."""
    return World
