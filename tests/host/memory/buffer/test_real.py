import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from labkit.errors import BadInput, NotAllowed
from labkit.host.memory import kpageflags, pagemap, pagemap_scan
from labkit.host.memory.buffer import KINDS, real, real_buffer, switches
from labkit.host.memory.buffer.space import Space
from labkit.host.undo import Undo
from labkit.host.wait import wait_until

PAGE, KIB, MIB = 4096, 1 << 10, 1 << 20
FOLIO = {"16KiB": 16 * KIB, "64KiB": 64 * KIB, "2MiB": 2 * MIB, "hugetlb": 2 * MIB, "memfd-2MiB": 2 * MIB}
FOR_EVERYBODY = ("4KiB", "4KiB-shuffled", "memfd", "file")


def vm_flags(address):
    """The flags of the mapping that holds `address`, as smaps has them: nh is MADV_NOHUGEPAGE."""
    for mapping in re.split(r"\n(?=\w+-\w+ )", Path("/proc/self/smaps").read_text()):
        start, end = (int(text, 16) for text in mapping.split(" ", 1)[0].split("-"))
        if start <= address < end:
            return re.search(r"VmFlags: (.*)", mapping)[1].split()
    return []


def test_the_kinds_are_ten():
    assert (
        *("4KiB", "4KiB-shuffled", "16KiB", "64KiB", "2MiB", "hugetlb"),
        *("memfd", "memfd-2MiB", "file", "synth"),
    ) == KINDS


@pytest.mark.parametrize("kind", FOR_EVERYBODY)
def test_some_kinds_need_no_root_and_change_no_setting(kind, written):
    with real_buffer(kind, 3 * PAGE + 7, written) as buffer:
        assert (buffer.kind, buffer.nbytes, len(buffer.view)) == (kind, 3 * PAGE + 7, 3 * PAGE + 7)
        assert buffer.address % PAGE == 0
        assert np.frombuffer(buffer.view, np.uint8).ctypes.data == buffer.address
        buffer.view[-1] = 5
        assert buffer.view[-1] == 5
    assert written.log == []


@pytest.mark.host
@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nbytes", [512, 3 * MIB])
def test_every_kind_is_there_in_its_folios_and_gives_all_back(kind, nbytes, undo, says, mapped):
    before = says()
    with real_buffer(kind, nbytes, undo, seed=3) as buffer:
        rows = pagemap.rows(buffer.address, nbytes)
        assert min(pfn for _, pfn, _ in rows) > 0
        assert buffer.address % FOLIO.get(kind, PAGE) == 0
        expected = {"synth": (2 * MIB,), "file": buffer.got}.get(kind, (FOLIO.get(kind, PAGE),))
        assert buffer.got == expected
        assert not any(buffer.view)
    assert not mapped(buffer.address)
    assert says() == before


@pytest.mark.host
@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hugetlb"])
def test_nobody_collapses_what_is_there_into_huge_pages(kind, undo):
    with real_buffer(kind, 4 * MIB, undo) as buffer:
        for at in (0, 2 * MIB, 4 * MIB - 1):
            assert "nh" in vm_flags(buffer.address + at)


@pytest.mark.host
@pytest.mark.usefixtures("root")
def test_a_page_that_is_touched_is_of_a_folio_that_is_told_whole(undo):
    with real_buffer("64KiB", 256 * KIB, undo) as buffer:
        (row,) = pagemap.rows(buffer.address + 5 * PAGE, PAGE)
        ((head, pages, bits),) = kpageflags.large_folios([row])
    assert (head, pages) == (row[1] - 5, 16)
    assert {"COMPOUND_HEAD", "THP", "ANON"} <= set(kpageflags.names(bits))


def test_a_slice_outlives_its_buffer_and_what_is_closed_can_be_closed_again(written, mapped):
    buffer = real_buffer("4KiB", 64 * MIB, written)
    held = np.frombuffer(buffer.view, np.uint8)
    buffer.close()
    buffer.close()
    assert (held[-1], mapped(buffer.address)) == (0, True)


@pytest.mark.parametrize(
    ("kind", "nbytes", "runs", "told"),
    [
        ("5KiB", PAGE, (), "kind='5KiB' is none of 4KiB, 4KiB-shuffled, "),
        ("4KiB", 0, (), "0 bytes is no size: at least 1 byte is needed"),
        ("4KiB", -5, (), "-5 bytes is no size"),
        ("4KiB", PAGE, (1, 2), "runs of 4KiB are the kernel's choice: use synth"),
        ("synth", 9 * PAGE, (1, 999), "a run of 999 pages is none of 1 to 511"),
    ],
)
def test_what_is_no_buffer_is_refused(kind, nbytes, runs, told, written):
    with pytest.raises(BadInput, match=f"buffer: {told}"):
        real_buffer(kind, nbytes, written, runs=runs)


def test_more_than_the_memory_of_any_machine_is_refused(written):
    for nbytes in (1 << 50, 1 << 80):
        with pytest.raises(NotAllowed, match=r"that are free: ask for a smaller buffer \(-ENOMEM\)"):
            real_buffer("4KiB", nbytes, written)


def test_folios_that_cannot_be_had_are_told_with_a_remedy_and_no_others_given(written, monkeypatch, mapped):
    tried = []

    def kept(space, _folio):
        tried.append(space.address + 32 * MIB)
        return False

    monkeypatch.setattr(real, "_kept", kept)
    with pytest.raises(NotAllowed, match=r"64 MiB of 4KiB folios are not to be had: .*compact_memory \(-ENOMEM\)"):
        real_buffer("4KiB", 64 * MIB, written)
    assert len(tried) == 3
    assert not mapped(tried[-1])


@pytest.mark.parametrize("kind", ["16KiB", "64KiB"])
def test_an_interruption_while_it_is_touched_leaves_neither_a_mapping_nor_a_setting(
    kind, written, monkeypatch, mapped, sysfs
):
    addresses = []

    def struck(space):
        assert "[never]" in (sysfs / "thp/hugepages-2048kB/enabled").read_text()
        addresses.append(space.address + MIB)
        raise KeyboardInterrupt

    monkeypatch.setattr(Space, "populate", struck)
    with pytest.raises(KeyboardInterrupt) as caught:
        real_buffer(kind, 64 * MIB, written)
    assert caught.tb  # which holds every frame of Python that knew the mapping
    assert not mapped(addresses[0])
    assert "[inherit]" in (sysfs / "thp/hugepages-2048kB/enabled").read_text()
    assert "[never]" in (sysfs / f"thp/hugepages-{kind.removesuffix('KiB')}kB/enabled").read_text()


def test_a_real_interruption_leaves_no_mapping(written):
    def mappings():
        return Path("/proc/self/maps").read_text().count("\n")

    before = mappings()
    for delay in (0.001, 0.01, 0.05):
        signal.setitimer(signal.ITIMER_REAL, delay)
        handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            with suppress(KeyboardInterrupt):
                while True:
                    real_buffer("4KiB-shuffled", 64 * MIB, written).close()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
    assert mappings() - before < 8


@pytest.mark.host
@pytest.mark.usefixtures("root")
def test_killed_while_a_setting_is_changed_it_is_put_back_by_the_next_undo(start, says):
    before = says()
    child = start(
        "import os, signal\nfrom labkit.host.memory.buffer import real_buffer, switches\n"
        "from labkit.host.undo import Undo\n"
        "from labkit.host.memory.buffer.space import Space\n"
        "def struck(_space):\n"
        "    print((switches._THP / 'hugepages-64kB/enabled').read_text(), end='', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "Space.populate = struck\n"
        "real_buffer('64KiB', 1 << 20, Undo())\n"
    )
    child.wait(60)
    assert (child.returncode, child.stdout.readline()) == (-signal.SIGKILL, "always inherit [madvise] never\n")
    Undo()
    assert says() == before


@pytest.mark.host
@pytest.mark.usefixtures("root")
def test_killed_with_huge_pages_in_its_hands_it_leaves_none_behind(start, says):
    def beyond():
        return int((switches._POOL / "surplus_hugepages").read_text())

    before, pages = says(), beyond()
    child = start(
        "import time\nfrom labkit.host.memory.buffer import real_buffer\nfrom labkit.host.undo import Undo\n"
        "buffer = real_buffer('hugetlb', 4 << 20, Undo())\nprint(buffer.got, flush=True)\ntime.sleep(60)\n"
    )
    assert child.stdout.readline() == "(2097152,)\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait(60)
    assert wait_until(lambda: beyond() <= pages, 2)
    assert says() == before


def test_an_ordinary_user_gets_huge_pages_that_the_kernel_calls_so(written, monkeypatch, sysfs):
    def hidden(*_):
        raise NotAllowed("pagemap", "/proc/self/pagemap", "hides the frames without CAP_SYS_ADMIN: run as root", 1)

    seen = []

    def scan(address, nbytes):
        seen.append(nbytes)
        return [
            pagemap_scan.Region(address, nbytes // PAGE, frozenset({"PRESENT", "HUGE"} if seen[1:] else {"PRESENT"}))
        ]

    monkeypatch.setattr(pagemap, "rows", hidden)
    monkeypatch.setattr(pagemap_scan, "scan", scan)
    assert (sysfs / "thp/enabled").read_text() == "always [madvise] never"
    with real_buffer("2MiB", 3 * MIB, written) as buffer:
        assert (buffer.nbytes, seen) == (3 * MIB, [4 * MIB, 4 * MIB])
        with pytest.raises(NotAllowed, match="hides the frames without CAP_SYS_ADMIN: run as root"):
            _ = buffer.got
    assert written.log == []
