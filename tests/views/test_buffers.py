"""User memory as a column of cards."""

from labkit.trace.events import IoUringSubmitReq, Mmap, SysEnter
from labkit.trace.trace import Trace
from labkit.views.buffers import buffers
from labkit.views.journey import Io

EDGES = (100.0, 0.0, 200.0, 500.0)


def runs(*records):
    found = buffers(Trace(records), [Io(1, "x", records[-1].buf, records[-1].nbytes, 0, 0)], EDGES).runs
    return [(run.addr, run.nbytes) for run in found]


def test_each_piece_of_an_iovec_is_a_run_of_its_own():
    iov = ((0x9000, 512), (0x5000, 512))
    mapped = Mmap(0, 0, 0x4000, 0x8000, "rw-", "buffer")
    assert runs(mapped, SysEnter(1, 1, "preadv", 3, 0x9000, 1024, 0, iov)) == sorted(iov)
    assert runs(mapped, IoUringSubmitReq(1, 1, "READV", 0, -1, 0x9000, 1024, 0, iov)) == sorted(iov)


def test_a_buffer_in_one_piece_is_one_run():
    assert runs(SysEnter(1, 1, "pread64", 3, 0x9000, 8192, 0)) == [(0x9000, 8192)]
