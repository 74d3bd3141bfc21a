"""Invariants 1, 3, 7, 8 and 9, over memory, extents, limits and calls that nobody has thought of.

Every length is recounted here from the records, every byte is looked at, and the checker looks on.
"""

import errno
import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from labkit.errors import BadInput, SyscallError
from labkit.machine import Machine
from labkit.scatter.payload import run_length
from labkit.trace.events import BlockBioQueue, BlockRqIssue, BlockSplit, DeviceDma, DmaMap, GupPin, IovIterZero

BLOCK, PAGES, SIZE, WINDOW = 4096, 24, 128 << 10, 512 << 10
ERRORS = {errno.EFAULT, errno.EINVAL, errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSPC}
"""What a call may meet here: memory, alignment, nobody may wait, flags, an append to the device."""
SYSTEMS = ("phyr", "page", "unified")
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "logical_block_size": st.sampled_from([512, 4096]),
        "physical_block_size": st.sampled_from([4096, 16384]),
        "max_sectors": st.integers(1, 40).map(lambda pages: 8 * pages),
        "max_segments": st.integers(1, 40),
        "max_segment_size": st.integers(8, 64).map(lambda sectors: sectors * 512),
        "dma_alignment": st.sampled_from([3, 511, 4095]),
        "virt_boundary_mask": st.sampled_from([4095, 8191, 65535]),
        "seg_boundary_mask": st.sampled_from([4095, 65535, (1 << 32) - 1]),
        "chunk_sectors": st.sampled_from([8, 16, 64, 256]),
        "nr_requests": st.integers(1, 8),
        "io_min": st.sampled_from([4096, 65536]),
        "io_opt": st.sampled_from([65536, 1 << 20]),
        "nomerges": st.integers(0, 2),
        "write_cache": st.integers(0, 1),
        "fua": st.integers(0, 1),
        "nowait": st.integers(0, 1),
        "stable_writes": st.integers(0, 1),
    },
)
WORLDS = st.fixed_dictionaries(
    {
        "kernel": st.sampled_from(["6.1", "6.12", "6.18", "7.3"]),
        "fs": st.sampled_from(["raw", "ext4", "xfs"]),
        "scatter": st.sampled_from([0.0, 0.5, 1.0]),
        "iommu": st.sampled_from(["off", "lazy", "strict"]),
        "fragmentation": st.sampled_from([0.0, 0.6, 1.0]),
        "sched": st.sampled_from(["none", "none", "mq-deadline", "bfq", "kyber"]),
        "seed": st.integers(0, 99),
        "limits": LIMITS,
    }
)
EXTENTS = st.lists(
    st.tuples(st.sampled_from(["mapped", "mapped", "hole", "unwritten"]), st.integers(1, 12)), min_size=1, max_size=8
)
FOLIOS = st.sampled_from(["4KiB", "4KiB", "16KiB", "64KiB", "2MiB", "memfd", "hugetlb"])
BUFFERS = st.lists(FOLIOS, min_size=1, max_size=2)
SECTORS = st.sampled_from([512, 512, 4096])
BYTES = st.tuples(st.integers(0, 24), SECTORS).map(lambda two: two[0] * two[1])
SKEWS = st.one_of(BYTES, st.sampled_from([4, 3, 100]))
PIECES = st.lists(st.tuples(st.integers(0, 1), BYTES, BYTES), min_size=1, max_size=6)
"""(buffer, bytes that are left out before it, bytes): one lies behind the other, so that none is written twice."""
ODD_PIECES = st.lists(st.tuples(st.integers(0, 1), SKEWS, SKEWS), min_size=1, max_size=6)
CALLS = {
    "op": st.sampled_from(["read", "write"]),
    "api": st.sampled_from(["preadv", "preadv", "pread", "io_uring", "aio", "io_uring-fixed"]),
    "pos": BYTES,
    "flags": st.sampled_from(["", "", "", "RWF_DSYNC", "RWF_NOWAIT", "RWF_APPEND"]),
    "extents": EXTENTS,
    "shared": st.booleans(),
    "buffers": BUFFERS,
}
SOUND = st.fixed_dictionaries({**CALLS, "pieces": PIECES, "hurt": st.none()})
HURT = st.fixed_dictionaries(
    {
        **CALLS,
        "pieces": st.one_of(PIECES, ODD_PIECES),
        "hurt": st.one_of(st.none(), st.tuples(st.sampled_from(["gone", "r--"]), st.integers(0, PAGES - 1))),
    }
)


@dataclass
class Run:
    """One call on one machine: what it returned (an errno below zero), both sides after and before, the bad page."""

    machine: Machine
    pieces: list[tuple[int, int]]
    frames: tuple[tuple[int, int], ...]
    pos: int
    ret: int
    memory: bytes
    file: tuple[bytes, bytes]
    hurt: int | None


def settled(nothing_held, world, call, system):
    """Run `call` in `world`; assert that nothing is broken, and nothing is left; what cannot be built is no example."""
    try:
        machine = Machine(system=system, ram="64 MiB", check=True, **world)
        path = file_of(machine, call)
    except BadInput:
        reject()
    task = machine.task()
    pieces, memory, bad = memory_of(task, call)
    before = machine.volume.peek(path, 0, WINDOW)
    pos = machine.volume.size(path) if "APPEND" in call["flags"] and call["op"] == "write" else call["pos"]
    ret = result_of(lambda: done(task, task.open(path), pieces, call))
    assert machine.trial.judge(machine)["violations"] == []
    after = machine.volume.peek(path, 0, WINDOW)
    frames = () if call["hurt"] else tuple(run for piece in pieces if piece[1] for run in task.frames(*piece))
    now = b"" if call["hurt"] else b"".join(task.load(*piece) for piece in pieces)
    nothing_held(machine)
    return Run(machine, pieces, frames, pos, ret, now if call["op"] == "read" else memory, (after, before), bad)


def file_of(machine, call):
    """Make the file that `call` is about, filled where it can be; return its path."""
    volume, fs = machine.volume, machine.scenario.fs
    path = volume.disk.path
    if fs != "raw":
        made = volume.mkfs(fs, fragmentation=machine.scenario.scatter, seed=machine.scenario.seed)
        inode, at = volume.create("file"), 0
        for kind, blocks in call["extents"]:
            if kind != "hole":
                inode.fallocate(at, blocks * BLOCK)
            if kind == "mapped":
                inode.end_io(at, blocks * BLOCK, unwritten=True, extend=True)
            at += blocks * BLOCK
        inode.truncate(at)
        if call["shared"] and made.kind.reflink:
            made.reflink("file", "copy")
        path = "/mnt/file"
    volume.poke(path, 0, np.random.default_rng(1).bytes(min(SIZE, volume.size(path))))
    return path


def memory_of(task, call):
    """Map the buffers, fill them, and hurt the first; return the pieces (address, bytes) and what they hold."""
    starts = [task.mmap(2 * PAGES * BLOCK, folio) for folio in call["buffers"]]
    ends = list(starts)
    pieces = []
    for which, gap, nbytes in call["pieces"]:
        at = which % len(ends)
        begin = ends[at] + gap % (PAGES * BLOCK // 6)
        pieces.append((begin, nbytes % (PAGES * BLOCK // 6)))
        ends[at] = sum(pieces[-1])
    if call["api"] != "preadv":
        pieces = pieces[:1]
    for number, start in enumerate(starts):
        task.store(start, np.random.default_rng(2 + number).bytes(2 * PAGES * BLOCK))
    memory = b"".join(task.load(*piece) for piece in pieces)
    return pieces, memory, hurt(task, call, starts[0])


def hurt(task, call, start):
    """Take a page of the buffer at `start` away, or the right to write to it; return the address, None for no harm."""
    if not call["hurt"] or call["buffers"][0] == "hugetlb":
        return None
    how, page = call["hurt"]
    addr = start + page * BLOCK
    task.munmap(addr, BLOCK) if how == "gone" else task.mprotect(addr, BLOCK, how)
    return addr if how == "gone" or call["op"] == "read" else None


def done(task, fd, pieces, call):
    """Do `call`; return the bytes moved. Raises what it met."""
    read, flags, pos = call["op"] == "read", call["flags"], call["pos"]
    if call["api"] == "preadv":
        return (task.preadv if read else task.pwritev)(fd, pieces, pos, flags)
    ((addr, nbytes),) = pieces
    if call["api"] == "pread":
        return (task.pread if read else task.pwrite)(fd, addr, nbytes, pos, flags)
    ring, index = task.aio() if call["api"] == "aio" else task.io_uring(), None
    if call["api"] == "io_uring-fixed" and nbytes:
        ring.register_buffers([(addr, nbytes)])
        index = 0
    (ring.read if read else ring.write)(fd, addr, nbytes, pos, buf_index=index, flags=flags)
    (entry,) = ring.submit()
    if index is not None:
        ring.unregister_buffers()
    return entry.res


def result_of(ask):
    try:
        return ask()
    except SyscallError as bad:
        return -bad.errno


def check_bytes(run, call):
    """Invariant 1, at the ends: what was moved has arrived, and nothing beside the call has changed."""
    after, before = run.file
    total = sum(nbytes for _, nbytes in run.pieces)
    assert run.ret <= total
    assert before[: run.pos] == after[: run.pos]
    assert before[run.pos + total :] == after[run.pos + total :]
    if run.ret > 0 and run.memory:
        assert after[run.pos : run.pos + run.ret] == run.memory[: run.ret]
    if call["op"] == "read":
        assert after == before


def check_lengths(run, call):
    """Invariants 1 and 7, on the way: every layer has the bytes of the IO, at the frames that the page table says."""
    trace = run.machine.trace
    moved = sum(rec.len for rec in trace.of(DeviceDma))
    assert sum(n for rec in trace.of(DmaMap) for _, n in rec.dma) == moved
    assert sum(n for rec in trace.of(DmaMap) for _, n in rec.phys) == moved
    if run.ret > 0:
        bios = sum(rec.nr_sector for rec in trace.of(BlockBioQueue)) << 9
        zeros = sum(rec.nbytes for rec in trace.of(IovIterZero))
        assert bios == moved or (bios > moved and "uring" in call["api"])  # a try that nobody may wait for, then again
        whole = run.ret == sum(nbytes for _, nbytes in run.pieces)  # else the end of the file is in between
        assert moved + zeros == run.ret if whole and call["op"] == "read" else moved + zeros >= run.ret
    pins = [rec.ranges for rec in trace.of(GupPin) if rec.policy != "none" and rec.io]
    if run.machine.scenario.system == "phyr":
        assert all(a + n != b for ranges in pins for (a, n), (b, _) in itertools.pairwise(ranges))
        once = call["api"] in {"pread", "preadv"}  # a ring may try where nobody may wait, and pin anew in a worker
        if pins and once and run.ret == sum(nbytes for _, nbytes in run.pieces):
            assert run_length([each for ranges in pins for each in ranges]) == run_length(run.frames)


def check_limits(run):
    """Invariant 3: every request, every segment of it and every split fits the queue, whatever its limits are."""
    limits, trace = run.machine.queue.limits, run.machine.trace
    for rec in trace.of(BlockRqIssue):
        assert rec.nr_sector <= limits.max_sectors
        assert not rec.nr_sector or not limits.chunk_sectors or (
            rec.sector // limits.chunk_sectors == (rec.sector + rec.nr_sector - 1) // limits.chunk_sectors
        )  # fmt: skip
    for rec in trace.of(DmaMap):
        assert sum(map(len, (pieces_of(run, limits) for run in rec.phys))) <= limits.max_segments
        joints = [a for a, _ in rec.phys][1:] + [a + n for a, n in rec.phys][:-1]
        assert not any(addr & limits.virt_boundary_mask for addr in joints)
    assert all(rec.new_sector % (limits.logical_block_size >> 9) == 0 for rec in trace.of(BlockSplit))


def pieces_of(run, limits):
    """Return where the segments of one physical range end, each as long as it may be."""
    addr, end, ends = run[0], sum(run), []
    while addr < end:
        addr = min(end, addr + limits.max_segment_size, (addr | limits.seg_boundary_mask) + 1)
        ends.append(addr)
    return ends


many = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
@settings(many, max_examples=450)
@given(world=WORLDS, call=SOUND)
def test_every_byte_arrives_in_requests_that_fit_the_queue(nothing_held, system, world, call):
    run = settled(nothing_held, world, call, system)
    check_bytes(run, call)
    check_lengths(run, call)
    check_limits(run)


def before_hurt(run):
    """Return how many bytes of the call come before its first page that nothing can be done with."""
    page, done = run.hurt, 0
    for addr, nbytes in run.pieces:
        if page is not None and addr < page + BLOCK and page < addr + nbytes:
            return done + max(0, page - addr)
        done += nbytes
    return done


def refused_by_the_drive(world, run):
    """Return whether the error is the drive's: 6.18 alone lets memory through that no PRP can name (R8)."""
    odd = any((addr | nbytes) % 4 for addr, nbytes in run.pieces)
    return run.ret == -errno.EIO and world["kernel"] == "6.18" and odd


def may_differ(world, call, page, other):
    """Return the rule by which `other`, who pins at the start, may return something else than `page`."""
    kinds = {kind for kind, _ in call["extents"]} if world["fs"] != "raw" else {"mapped"}
    refused = other in {-errno.EFAULT, -errno.EINVAL}
    if refused and call["op"] == "read" and kinds - {"mapped"}:
        return "D-5"
    if other == -errno.EFAULT and page >= 0:
        return "D-4"
    if other == -errno.EINVAL and page >= 0 and call["shared"] and world["fs"] == "xfs":
        return "D-6"  # a part of a shared block goes through the page cache, before anybody looks at memory
    mask = world["limits"].get("dma_alignment", 511) | 511
    if (
        -errno.EINVAL in {page, other}
        and world["kernel"] == "6.18"
        and any(n & mask for p in call["pieces"] for n in p)
    ):
        return "R8"
    return "D-6" if refused and page < 0 else ""


@pytest.mark.slow
@settings(many, max_examples=700)
@given(world=WORLDS, call=HURT)
def test_all_systems_return_the_same_and_the_first_bad_page_decides(nothing_held, world, call):
    page, *others = runs = [settled(nothing_held, world, call, system) for system in ("page", "phyr", "unified")]
    for run in runs:
        check_bytes(run, call)
        check_limits(run)
        assert run.ret <= before_hurt(run)
        assert run.ret >= 0 or -run.ret in ERRORS or (run is page and refused_by_the_drive(world, run))
    for run in others:
        assert run.ret == page.ret or may_differ(world, call, page.ret, run.ret)
        assert run.ret != page.ret or run.ret < 0 or (run.memory, run.file) == (page.memory, page.file)
