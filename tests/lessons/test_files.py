from itertools import islice

import pytest

from labkit.lessons.files import BESIDE, BIOS, LEFT, ORDER, STATE, ZEROS, cached, endless, layout, state
from labkit.machine import Machine
from labkit.trace.events import BlockBioQueue, IovIterZero, PageCacheRaOrder

MIXED = {"fs": "ext4", "extents": "mixed", "size": "96 KiB", "ram": "64 MiB", "seed": 7}


def test_bios_and_zeros_are_counted_in_the_run():
    machine = Machine(**MIXED)
    machine.run()
    assert BIOS.answer(machine.trace) == len(machine.trace.of(BlockBioQueue)) == 4
    assert ZEROS.answer(machine.trace) == sum(rec.nbytes for rec in machine.trace.of(IovIterZero)) // 1024 == 64


def test_unwritten_blocks_are_mapped_once_they_are_written():
    machine = Machine(**MIXED, op="write")
    machine.run()
    assert STATE.check((machine.volume.inode("/mnt/file"), 16384), "mapped") == "Yes: mapped."


def file_of(parts):
    """A file of 8 KiB parts of the kinds named."""
    machine = Machine(fs="ext4", ram="64 MiB", seed=1)
    machine.volume.mkfs("ext4")
    inode = machine.volume.create("f")
    for i, kind in enumerate(parts):
        if kind != "hole":
            inode.fallocate(i * 8192, 8192)
    inode.truncate(8192 * len(parts))
    return inode


def test_a_layout_has_every_byte_of_the_file_once():
    rows = layout(file_of(["unwritten", "hole", "unwritten", "hole"]))
    assert [(offset, length, kind) for offset, length, _, kind in rows] == [
        (0, 8192, "unwritten"), (8192, 8192, "hole"), (16384, 8192, "unwritten"), (24576, 8192, "hole"),
    ]  # fmt: skip
    assert [addr < 0 for _, _, addr, _ in rows] == [False, True, False, True]
    assert state(file_of(["hole", "unwritten"]), 8192) == "unwritten"


def test_a_file_of_holes_alone_has_a_layout_too():
    assert layout(file_of(["hole", "hole"])) == [(0, 16384, -1, "hole")]


def test_a_direct_write_leaves_the_rest_of_the_cache_alone():
    machine = Machine(fs="ext4", ram="64 MiB", seed=7)
    machine.volume.mkfs("ext4")
    machine.volume.create("f", 128 << 10)
    task = machine.task()
    buf = task.mmap("128 KiB")
    task.pread(task.open("/mnt/f", "O_RDONLY"), buf, "128 KiB")
    assert cached(machine) == 32
    assert ORDER.answer(machine.trace) == machine.trace.of(PageCacheRaOrder)[-1].order
    task.pwrite(task.open("/mnt/f", "O_RDWR|O_DIRECT"), buf, "16 KiB")
    assert LEFT.check(machine, 28) == "Yes: 28."


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_has_one_series_and_words_are_among_the_choices(seed):
    one = list(islice(endless(seed), 15))
    assert [(q.text, q.answer) for q in one] == [(q.text, q.answer) for q in islice(endless(seed), 15)]
    assert all(q.answer in q.choices for q in one if isinstance(q.answer, str))
    assert len({q.text for q in one}) > 8


def test_a_part_of_a_new_block_is_written_with_zeros_on_both_sides():
    machine = Machine(fs="xfs", ram="64 MiB", seed=7)
    machine.volume.mkfs("xfs")
    machine.volume.create("f").truncate(16384)
    task = machine.task()
    task.pwrite(task.open("/mnt/f"), task.mmap("4 KiB"), "1 KiB", 5120)
    assert BESIDE.answer(machine.trace) == 3
    assert machine.volume.peek("/mnt/f", 4096, 1024) == bytes(1024)
