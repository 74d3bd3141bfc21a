"""The questions of notebook 07: files, holes, and the page cache."""

from collections.abc import Iterator
from random import Random

from labkit.kernel.fs.inode import Inode
from labkit.lessons import quiz
from labkit.lessons.quiz import Exercise, Question
from labkit.machine import Machine
from labkit.trace.events import BlockBioQueue, IovIterZero, PageCacheRaOrder
from labkit.trace.trace import Trace
from labkit.units import PAGE_SHIFT, human_bytes

Row = tuple[int, int, int, str]
"""Offset in the file, bytes, byte of the device or -1, type."""
TYPES = ("mapped", "unwritten", "hole", "delalloc")
_STATES = {"UNWRITTEN": "unwritten", "DELALLOC": "delalloc", "DATA_INLINE": "inline"}


def layout(inode: Inode) -> list[Row]:
    """Return where the bytes of a file lie, holes too, as the picture of extents wants it."""
    rows: list[Row] = []
    at = 0
    for start, addr, length, flags in [*inode.fiemap(), [inode.i_size, 0, 0, []]]:
        if start > at:
            rows.append((at, start - at, -1, "hole"))
        if length:
            state = next((_STATES[flag] for flag in flags if flag in _STATES), "mapped")
            rows.append((start, length, -1 if state == "delalloc" else addr, state))
        at = max(at, start + length)
    return rows


def cached(machine: Machine) -> int:
    """Return how many pages all files of `machine` have in the page cache."""
    return sum(cache.nrpages for cache in machine.volume.caches())


def state(inode: Inode, pos: int) -> str:
    """Return what kind of extent holds byte `pos` of a file."""
    return next(kind for start, length, _, kind in layout(inode) if start <= pos < start + length)


def _bios(trace: Trace) -> int:
    return len(trace.of(BlockBioQueue))


def _zeroed(trace: Trace) -> int:
    return sum(rec.nbytes for rec in trace.of(IovIterZero)) >> 10


def _last_order(trace: Trace) -> int:
    return trace.of(PageCacheRaOrder)[-1].order


BIOS = Question(
    "How many bios does the read of this file make?",
    _bios,
    "One for each extent that holds data; a hole and an unwritten extent need none (DIO-15).",
)
ZEROS = Question(
    "How many KiB of the buffer does the CPU fill with zeros itself?",
    _zeroed,
    "Nothing of a hole, and nothing of an unwritten extent, is on the device (DIO-15).",
)
BESIDE = Question(
    "1 KiB is written directly into the middle of a block of 4 KiB that is a hole: how many bios is that?",
    _bios,
    "The block is new, so what stands beside the data must not be what was there before: zeros, data, zeros (DIO-10).",
)
STATE = Question(
    "A direct write into unwritten blocks has ended: what are they now?",
    lambda found: state(*found),
    "They become mapped when the data is on the device, and not before: a crash must not show old bytes (DIO-12).",
    TYPES,
)
LEFT = Question(
    "32 pages are cached, and 16 KiB of them are written directly: how many pages are cached after that?",
    cached,
    "Direct IO goes around the cache, so what the cache has of these bytes must go first (DIO-18).",
)
ORDER = Question(
    "Of which order are the folios of the last readahead?",
    _last_order,
    "Each mark that a reader meets lets the folios grow by two orders, as far as the window (BUF-1).",
)


def endless(seed: int) -> Iterator[Exercise]:
    """Yield exercises on files and the page cache without end; the same seed gives the same series."""
    return quiz.endless(seed, (_ask_bios, _ask_zeros, _ask_state, _ask_left, _ask_order))


def _mixed(rng: Random) -> tuple[str, Machine]:
    """Return a read of a file in several parts, in words, and the machine that has done it."""
    step = rng.choice((8, 16, 32)) << 10
    kinds = [rng.choice(("mapped", "hole", "unwritten")) for _ in range(rng.randrange(3, 7))]
    machine = Machine(fs="ext4", ram="64 MiB", seed=rng.randrange(99))
    machine.volume.mkfs("ext4")
    inode = machine.volume.create("f")
    for i, kind in enumerate(kinds):
        if kind != "hole":
            inode.fallocate(i * step, step)
        if kind == "mapped":
            inode.end_io(i * step, step, unwritten=True, extend=True)
    machine.volume.truncate("/mnt/f", step * len(kinds))
    task = machine.task()
    task.pread(task.open("/mnt/f", "O_RDONLY|O_DIRECT"), task.mmap(step * len(kinds)), step * len(kinds))
    return f"{len(kinds)} parts of {human_bytes(step)}: {', '.join(kinds)}", machine


def _ask_bios(rng: Random) -> Exercise:
    what, machine = _mixed(rng)
    text = f"A file has {what}. A direct read of all of it: how many bios?"
    return Exercise(text, _bios(machine.trace), "One for each run of mapped bytes (DIO-15).")


def _ask_zeros(rng: Random) -> Exercise:
    what, machine = _mixed(rng)
    text = f"A file has {what}. How many KiB of zeros does the CPU write into the buffer of a direct read?"
    return Exercise(text, _zeroed(machine.trace), "All that is not mapped (DIO-15).")


def _ask_state(rng: Random) -> Exercise:
    fs, kind = rng.choice(("ext4", "xfs")), rng.choice(("unwritten", "hole"))
    machine = Machine(fs=fs, ram="64 MiB", seed=1)
    machine.volume.mkfs(fs)
    inode = machine.volume.create("f")
    if kind == "unwritten":
        inode.fallocate(0, 1 << 16)
    machine.volume.truncate("/mnt/f", 1 << 16)
    task = machine.task()
    pos, nbytes = rng.randrange(4) << 12, 4 << 12
    task.pwrite(task.open("/mnt/f"), task.mmap("64 KiB"), nbytes, pos)
    ask = rng.choice((pos, pos + nbytes))
    text = f"On {fs}, {human_bytes(nbytes)} are written directly at byte {pos:,} of a file of 64 KiB, all {kind}. "
    return Exercise(f"{text}What is byte {ask:,} of it now?", state(inode, ask), "What was written is mapped.", TYPES)


def _ask_left(rng: Random) -> Exercise:
    machine = Machine(fs="ext4", ram="64 MiB", seed=rng.randrange(99))
    machine.volume.mkfs("ext4")
    machine.volume.create("f", 1 << 20)
    task = machine.task()
    buf = task.mmap("128 KiB")
    task.pread(task.open("/mnt/f", "O_RDONLY"), buf, rng.choice((16, 64)) << 10)
    before, pages, op = cached(machine), rng.randrange(1, 9), rng.choice(("pwrite", "pread"))
    (task.pwrite if op == "pwrite" else task.pread)(task.open("/mnt/f"), buf, pages << PAGE_SHIFT, 0)
    text = f"{before} pages of a file are cached, clean, from its start. A direct {op} of its first {pages} pages: "
    hint = "A direct write drops what it goes around; a direct read only has dirty pages written first (DIO-18)."
    return Exercise(f"{text}how many are cached then?", cached(machine), hint)


def _ask_order(rng: Random) -> Exercise:
    reads = rng.randrange(1, 7)
    machine = Machine(fs="ext4", ram="64 MiB", seed=7, fragmentation=0)
    machine.volume.mkfs("ext4")
    machine.volume.create("f", 4 << 20)
    task = machine.task()
    fd, buf = task.open("/mnt/f", "O_RDONLY"), task.mmap("128 KiB")
    for i in range(reads):
        task.pread(fd, buf, "128 KiB", i << 17)
    text = f"{reads} reads of 128 KiB, one after the other, from the start of a file that is not cached. "
    hint = "The first readahead asks for single pages, each one after it for two orders more (BUF-1)."
    return Exercise(f"{text}Of which order are the folios of the last readahead?", _last_order(machine.trace), hint)
