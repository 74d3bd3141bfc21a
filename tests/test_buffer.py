"""labkit.task.buffer: a buffer as it is now, and how objects of the engine show themselves where nobody draws."""

import errno

import numpy as np
import pytest

from labkit.errors import SyscallError
from labkit.machine import Machine
from labkit.machine.compare import compare
from labkit.machine.workload import offer
from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.phyr import Phyr, PhyrList, phyrs_of


def test_a_buffer_is_told_as_it_is_now_and_stays_so():
    task = Machine(seed=7).task()
    buf = task.mmap("64 KiB", folio="64 KiB")
    before = task.buffer(buf + 4096)
    task.store(buf, b"x")
    after = task.buffer(buf)
    assert before == (buf, 65536, "rw-", "anon 64 KiB", ())
    assert [(va, nbytes) for va, _, nbytes in after.runs] == [(buf, 65536)]
    assert repr(after) == f"Buffer({buf:#x}, 64 KiB, anon 64 KiB, 1 physical range)"


def test_there_is_no_buffer_where_nothing_is_mapped():
    with pytest.raises(SyscallError) as bad:
        Machine(seed=7).task().buffer(0x1000)
    assert bad.value.errno == errno.EFAULT


def test_the_engine_says_in_a_line_what_each_thing_is():
    machine = Machine(seed=7, size="4 KiB")
    task = machine.task()
    task.mmap("4 KiB")
    fd = task.open("/dev/nvme0n1", "O_RDONLY|O_DIRECT")
    assert repr(task) == f"<Task 0: 1 mapping, 4 KiB, open [{fd}]>"
    assert repr(machine) == "<Machine phyr on nvme0n1, 4 GiB, kernel 7.3, seed 7, 1 records>"
    assert repr(machine.trace) == "<Trace of 1 records, 0 ns, phyr on nvme>"
    assert repr(machine.snapshot()) == "<Snapshot at 0 ns: 1 vmas, 0 pages, 0 folios, 0 pins, 0 dma, 0 tags>"
    assert repr(compare(machine.scenario, ["page", "phyr"])) == "<Comparison of page, phyr: results equal>"
    assert repr(offer(Machine(seed=7), count=3)).startswith("<Offered 3 IOs, ")


def test_phyrs_are_told_in_hex_and_a_long_list_by_its_first():
    short = PhyrList((Phyr(0x7000, 4096), Phyr(0x9000, 512, MemoryClass("mmio", "gpu0"))))
    assert repr(short) == "PhyrList(Phyr(0x7000, 4096), Phyr(0x9000, 512, MemoryClass(kind='mmio', provider='gpu0')))"
    long = phyrs_of(np.arange(1, 1001) * 8192, np.full(1000, 4096))
    assert repr(long) == "PhyrArray(1000 phyrs, 4096000 bytes, the first Phyr(0x2000, 4096))"
