import pytest

from labkit.machine import Machine


@pytest.fixture(scope="session")
def many():
    """The trace of 32 reads of one batch, all in flight at once."""
    machine = Machine(ram="64 MiB", fragmentation=0, size="4 KiB")
    task = machine.task()
    fd, ring, buf = task.open("/dev/nvme0n1"), task.io_uring(), task.mmap("256 KiB")
    for at in range(32):
        ring.read(fd, buf + at * 8192, 4096, at << 20)
    assert all(cqe.res == 4096 for cqe in ring.submit())
    return machine.trace


@pytest.fixture(scope="session")
def one():
    """The trace of a 256 KiB read that is split in two."""
    machine = Machine(ram="64 MiB", fragmentation=0, size="256 KiB")
    machine.run()
    return machine.trace
