import re

from labkit.machine import Machine
from labkit.trace.events import (
    BlockBioComplete,
    BlockBioQueue,
    BlockGetrq,
    BlockPlug,
    BlockRqComplete,
    BlockRqIssue,
    BlockRqMerge,
    BlockSplit,
    BlockUnplug,
)
from labkit.trace.trace import Trace
from labkit.views.export.blkparse import blkparse

LINE = re.compile(
    r" *\d+,\d+ +(?P<cpu>\d+) +(?P<seq>\d+) +(?P<time>\d+\.\d{9}) +(?P<pid>\d+) +(?P<action>[A-Z]) +(?P<rwbs>[A-Z]+) "
    r"(?P<rest>.*)"
)


def actions(trace):
    return [match["action"] for match in map(LINE.fullmatch, blkparse(trace).splitlines())]


def test_a_read_that_is_split_is_printed_as_blkparse_prints_it():
    records = (
        BlockBioQueue(1540, 1, 1, 0, 512, 1, 0, "RS"),
        BlockSplit(1540, 1, 1, 0, 256, "SPLIT-2"),
        BlockGetrq(1600, 1, 1, 1, 0, 0, 256, 1),
        BlockRqIssue(2094, 1, 1, 0, 0, 256),
        BlockRqComplete(89398, 1, 1, 0, 0, 256, 0),
    )
    assert blkparse(Trace(records)).splitlines() == [
        "  0,0    0        1     0.000001540     0  Q  RS 0 + 512 [io 1]",
        "  0,0    0        2     0.000001540     0  X  RS 0 / 256 [io 1]",
        "  0,0    0        3     0.000001600     0  G  RS 0 + 256 [io 1]",
        "  0,0    0        4     0.000002094     0  D  RS 0 + 256 [io 1]",
        "  0,0    0        5     0.000089398     0  C  RS 0 + 256 [0]",
    ]


def test_a_run_has_a_line_for_each_step_of_its_requests(one):
    assert actions(one) == list("QXGDGDCC")


def test_every_line_has_the_columns_of_blkparse(many):
    lines = blkparse(many).splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found)
    assert [int(match["seq"]) for match in found] == list(range(1, len(lines) + 1))
    times = [match["time"] for match in found]
    assert times == sorted(times, key=float)


def test_the_batch_is_plugged_and_unplugged(many):
    text = blkparse(many)
    assert re.search(r" P +N \[io 1\]\n", text)
    assert re.search(r" U +N \[.*\] 32\n", text)
    assert actions(many).count("D") == actions(many).count("C") == 32


def test_a_remapped_bio_says_where_it_came_from():
    machine = Machine(ram="64 MiB", fragmentation=0, size="4 KiB", op="write", stack="partition")
    machine.run()
    first = blkparse(machine.trace).splitlines()[0]
    assert re.search(r" A +WS \d+ \+ 8 <- \(0,0\) 0$", first)


def test_an_error_stands_where_a_completion_has_it():
    records = (BlockBioQueue(5, 1, 1, 8, 8, 1, 0, "W"), BlockBioComplete(1_000_000_007, 1, 1, 8, 8, -5))
    assert blkparse(Trace(records)).splitlines() == [
        "  0,0    0        1     0.000000005     0  Q   W 8 + 8 [io 1]",
        "  0,0    0        2     1.000000007     0  C   W 8 + 8 [-5]",
    ]


def test_what_belongs_to_no_io_is_the_kernels():
    records = (BlockPlug(1, 0), BlockUnplug(2, 0, 3), BlockRqMerge(3, 0, 1, 2, 0, 8, 16))
    assert [line[43:].strip() for line in blkparse(Trace(records)).splitlines()] == [
        "P   N [kernel]",
        "U   N [kernel] 3",
        "M   N 8 + 16 [kernel]",
    ]


def test_a_trace_without_block_layer_is_no_lines():
    assert blkparse(Trace(())) == ""
