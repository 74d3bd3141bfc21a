import ctypes
import errno
import json
import mmap
import os
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from labkit.errors import BadInput, NotAllowed, SyscallError
from labkit.host.calls.ring import Entry, Ring
from labkit.host.disk.loopdev import LoopDevice
from labkit.host.memory import pagemap
from labkit.host.memory.arena import arena
from labkit.host.watch import btf
from labkit.host.watch.bpf import BioWatch, calls, watch
from labkit.host.watch.bpf.bios import Bios
from labkit.witness.capture import Capture
from labkit.witness.predict import predict

MIB = 1 << 20
pytestmark = pytest.mark.host


def kdev(number):
    return os.major(number) << 20 | os.minor(number)


@pytest.fixture
def device():
    try:
        watch.vmemmap()
        made = LoopDevice.attach(64 * MIB)
    except NotAllowed as no:
        pytest.skip(str(no))
    with made as device:
        device.kdev = kdev(os.fstat(device.fileno()).st_rdev)
        yield device


@pytest.fixture
def watching(device):
    with BioWatch(device.kdev) as found:
        yield found


def fds():
    return sorted(Path("/proc/self/fd").iterdir())


def address_of(memory):
    return int(np.frombuffer(memory, np.uint8).ctypes.data)


def touched(nbytes, kind="4KiB"):
    if kind == "4KiB":
        memory = arena(nbytes)
        for at in random.Random(nbytes).sample(range(0, nbytes, 4096), nbytes // 4096):
            memory[at] = 1
        return memory
    pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    memory = memoryview(pages)
    memory[:] = bytes(nbytes)
    return memory


def large_folios(rows):
    """Every aligned 2 MiB of memory that is one piece is taken for a folio."""
    return [(pfn + at, 512) for va, pfn, pages in rows for at in range(-(va >> 12) % 512, pages - 511, 512)]


def predicted(device, memory, api, pos, pieces, *, fixed=False):
    """What predict makes of an IO of `pieces` of `memory`: [sector, [[physical address, bytes], ...]] of each bio."""
    address = address_of(memory)
    rows = pagemap.rows(address, memory.nbytes)
    capture = Capture.of({
        "format": "labkit-capture-1", "id": "test", "kernel": os.uname().release, "limits": device.limits,
        "device": {"path": "blkdev", "size_bytes": device.nbytes},
        "io": [{"api": api, "op": "w" if "write" in api else "r", "pos": pos, "buf_index": 0 if fixed else None,
                "iov": [(address + at, nbytes) for at, nbytes in pieces]}],
        "registered": [(address, memory.nbytes)] if fixed else None, "batch": 1 if fixed else None,
        "layout": {"before": rows, "large_folios": large_folios(rows)},
    })  # fmt: skip
    return predict(capture).bios


def seen(rows):
    return [[row["sector"], row["bvecs"]] for row in rows]


def some_pieces(rng, nbytes):
    """Between one and sixty pieces of whole sectors, somewhere in a buffer of `nbytes`."""
    count = rng.choice((1, 1, 1, 2, 7, 60))
    sizes = [512 * rng.choice((1, 3, 8, 16, 77, 512)) for _ in range(count)] if count > 1 else [
        512 * rng.choice((1, 8, 16, 99, 2048, 5000))
    ]  # fmt: skip
    return [(512 * rng.randrange((nbytes - size) // 512 + 1), size) for size in sizes]


@pytest.mark.parametrize("kind", ["4KiB", "2MiB"])
def test_the_vectors_of_random_ios_are_those_that_pagemap_and_predict_tell(device, watching, kind):
    rng, memory, stayed = random.Random(11), touched(8 * MIB, kind), 0
    address = address_of(memory)
    for _ in range(40):
        pieces, api = some_pieces(rng, memory.nbytes), rng.choice(("preadv", "pwritev"))
        pos = 512 * rng.randrange(40 * MIB // 512)
        before = pagemap.rows(address, memory.nbytes)
        getattr(device, api)([memory[at : at + nbytes] for at, nbytes in pieces], pos)
        rows = watching.drain()
        if pagemap.rows(address, memory.nbytes) == before:
            stayed += 1
            assert seen(rows) == predicted(device, memory, api, pos, pieces)
            assert {row["opf"] & 0xFF for row in rows} == {int(api == "pwritev")}
            assert sum(row["bytes"] for row in rows) == sum(nbytes for _, nbytes in pieces)
    assert stayed > 20  # of a few the pages may be moved meanwhile


@pytest.mark.parametrize("kind", ["4KiB", "2MiB"])
def test_a_registered_buffer_has_vectors_that_begin_and_end_within_its_own(device, watching, kind):
    memory = touched(4 * MIB, kind)
    address = address_of(memory)
    with Ring() as ring:
        ring.register_memory([(address, memory.nbytes)])
        for at, nbytes in ((0, 4096), (512, 512), (4096 + 512, 8192), (2 * MIB - 1536, 3072), (1 * MIB, 65536)):
            assert ring.enter(device.fileno(), [Entry(False, address + at, nbytes, 8192, 0)])() == [nbytes]
            rows = watching.drain()
            assert seen(rows) == predicted(device, memory, "io_uring_read_fixed", 8192, [(at, nbytes)], fixed=True)
            assert {row["max_vecs"] for row in rows} == {0}


def test_a_row_is_as_a_capture_has_it_and_tells_who_when_and_where(device, watching):
    memory, before = touched(4096), time.monotonic_ns()
    device.preadv([memory], 4096)
    after = time.monotonic_ns()
    (row,) = watching.drain()
    recorded = json.loads((Path(__file__).parents[4] / "data/captures/01-one-page-read.json").read_text())["bios"][0]
    assert set(recorded) <= set(row)
    assert before <= row["t"] <= after
    assert (row["kdev"], row["pid"], row["comm"]) == (
        device.kdev, threading.get_native_id(), Path("/proc/thread-self/comm").read_text().strip(),
    )  # fmt: skip
    assert (row["event"], row["sector"], row["bytes"], row["bvecs_truncated"]) == ("queue", 8, 4096, False)
    assert row["bvecs"] == [[pagemap.rows(address_of(memory), 4096)[0][1] << 12, 4096]]


def test_what_was_drained_is_not_told_again_and_other_devices_are_not_told(device, watching):
    memory = touched(8192)
    with LoopDevice.attach(MIB) as other:
        other.preadv([memory], 0)
        device.preadv([memory], 0)
        assert {row["kdev"] for row in watching.drain()} == {device.kdev}
        assert watching.drain() == []


def test_direct_io_of_a_loop_device_carries_the_frames_of_the_user_down_to_the_disk(device):
    below = device.backing.stat().st_dev
    if not Path(f"/sys/dev/block/{os.major(below)}:{os.minor(below)}").exists() or not device.limits["dio"]:
        pytest.skip("the file of the loop device is not on a disk, or is not read directly")
    memory = touched(256 * 1024)
    device.poke(0, b"x" * memory.nbytes)  # a hole is on no disk
    device.flush()
    with BioWatch(device.kdev, kdev(below)) as watching:
        device.preadv([memory], 0)
        rows = watching.drain()
    wanted = {pfn + at for _, pfn, n in pagemap.rows(address_of(memory), memory.nbytes) for at in range(n)}

    def frames(number):
        return {
            page >> 12
            for row in rows if row["kdev"] == number
            for start, nbytes in row["bvecs"]
            for page in range(start, start + nbytes, 4096)
        }  # fmt: skip

    assert frames(device.kdev) == wanted
    assert frames(kdev(below)) >= wanted


def test_a_discard_has_bytes_and_no_vectors(device, watching):
    try:
        fallocate(device.fileno(), MIB)
    except OSError as no:
        pytest.skip(f"the device discards nothing: {no.strerror}")
    rows = [row for row in watching.drain() if row["opf"] & 0xFF in {3, 9}]
    assert sum(row["bytes"] for row in rows) == MIB
    assert [row["bvecs"] for row in rows] == [[]] * len(rows)
    assert not any(row["bvecs_truncated"] for row in rows)


def fallocate(fd, nbytes):
    """FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE of a block device: zeroes, without a byte of memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(nbytes)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_lost_bios_are_an_error_once_and_then_it_goes_on(device):
    memory = touched(4096)
    with BioWatch(device.kdev, ring_bytes=8192) as watching:
        for _ in range(4):
            device.preadv([memory], 0)
        with pytest.raises(SyscallError, match=r"bpf: 3 bios were lost: drain more often.*\(-ENOBUFS\)"):
            watching.drain()
        device.preadv([memory], 0)
        assert [row["bytes"] for row in watching.drain()] == [4096]


def test_bios_that_the_program_was_not_run_for_are_lost_as_well(device, monkeypatch):
    with BioWatch(device.kdev) as watching:
        monkeypatch.setattr(calls, "recursion_misses", lambda _: 2)
        with pytest.raises(SyscallError, match=r"bpf: 2 bios were lost.*\(-ENOBUFS\)"):
            watching.drain()
        assert watching.drain() == []


def test_a_device_that_is_not_there_is_watched_in_peace(device):
    with BioWatch(4095 << 20 | 77) as watching:
        device.preadv([touched(4096)], 0)
        assert watching.drain() == []


def test_no_device_and_no_size_of_a_ring_are_bad_input():
    with pytest.raises(BadInput, match="bpf: no device leaves nothing to watch"):
        BioWatch()
    for number in (-1, 1 << 32):
        with pytest.raises(BadInput, match=f"bpf: kdev={number} is no number of a device: major << 20 . minor"):
            BioWatch(number)
    for nbytes in (0, -4096, 4097, 3 * 4096, 512, 2 << 30):
        with pytest.raises(BadInput, match=f"a ring of {nbytes} bytes is no power of two of whole pages"):
            BioWatch(1, ring_bytes=nbytes)


def test_everything_goes_with_the_descriptors_even_when_it_fails(device, monkeypatch):
    def fail():
        raise NotAllowed("bpf", "this test", "says no", errno.EPERM)

    before = fds()
    with BioWatch(device.kdev) as watching:
        assert len(fds()) > len(before)
    watching.close()
    monkeypatch.setattr(watch, "vmemmap", fail)
    with pytest.raises(NotAllowed, match="says no"):
        BioWatch(device.kdev)
    assert fds() == before


def test_a_kernel_whose_bio_is_another_is_told_so(monkeypatch, device):
    monkeypatch.setattr("labkit.host.watch.bpf.program._MEMBERS", {"bi_opf": "bio.bi_flavour"})
    with pytest.raises(NotAllowed, match=r"struct bio, where bio.bi_flavour is not in .* is not as this program knows"):
        Bios([device.kdev], 4096)


@pytest.mark.usefixtures("device")
def test_struct_pages_of_several_arrays_are_refused(monkeypatch):
    monkeypatch.setattr(watch, "_pages", lambda *_: [(0, 1), (0, 2)])
    with pytest.raises(NotAllowed, match="struct pages are in no one array"):
        watch.vmemmap.__wrapped__()


@pytest.mark.usefixtures("device")
def test_one_page_that_was_moved_is_read_again(monkeypatch):
    size = btf.vmlinux().size("page")
    answers = iter([[(0, 1), (0, 2)], [(5 * size, 5), (7 * size, 7)]])
    monkeypatch.setattr(watch, "_pages", lambda *_: next(answers))
    assert watch.vmemmap.__wrapped__() == 0


WITHOUT = """
import os
from labkit.errors import NotAllowed
from labkit.host.watch.bpf import BioWatch
from labkit.host.watch import btf
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
print(btf.struct_sizes(["bio_vec"]))
try:
    BioWatch(7 << 20)
except NotAllowed as error:
    print(error, error.exit_code)
"""


@pytest.mark.usefixtures("device")
def test_an_ordinary_user_is_told_the_remedy_and_still_reads_the_sizes(start):
    child = start(WITHOUT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    sizes, told = out.splitlines()
    assert sizes == "{'bio_vec': 16}"
    assert told == (
        "bpf: a map needs CAP_BPF and CAP_PERFMON: run as root, or go without what the kernel has in its bios "
        "(-EPERM) 3"
    )
