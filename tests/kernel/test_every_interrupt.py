"""Ctrl-C comes while a watcher is told of a record, of every type that a run tells, and nothing stays held."""

from collections import Counter

import pytest

from labkit.machine import Machine

NBYTES = 1 << 17


class Striker:
    """A watcher that counts what it is told, and presses Ctrl-C at the k-th record of a type, once."""

    def __init__(self, name="", k=0):
        self.name, self.k, self.told = name, k, None

    def __call__(self, rec):
        if self.told is not None:
            name = type(rec).__name__
            self.told[name] += 1
            if (name, self.told[name]) == (self.name, self.k):
                self.name = ""
                raise KeyboardInterrupt


def direct(path, call, **knobs):
    return lambda world: getattr(world.task, call)(world.open(path, "|O_DIRECT"), world.buf, NBYTES, 4096), knobs


def read(world):
    fd = world.open("/mnt/f", "")
    for pos in range(0, NBYTES, 32768):
        world.task.pread(fd, world.buf, 32768, pos)


def write(world):
    fd = world.open("/mnt/f", "")
    world.task.pwrite(fd, world.buf, NBYTES - 100, 50)
    world.task.fsync(fd)


def write_through(world):
    """The cache has the file dirty, and a direct read of it has to be coherent."""
    world.task.pwrite(world.open("/mnt/f", ""), world.buf, NBYTES)
    world.task.pread(world.open("/mnt/f", "|O_DIRECT"), world.buf, NBYTES)


def ring(world):
    uring = world.task.io_uring()
    uring.register_buffers([(world.buf, NBYTES)])
    try:
        fd = world.open("/mnt/f", "|O_DIRECT")
        for at in range(0, NBYTES, 32768):
            uring.read(fd, world.buf + at, 32768, at, buf_index=0)
        uring.submit()
    finally:
        uring.unregister_buffers()


def batch(world):
    aio = world.task.aio()
    fd = world.open("/mnt/f", "|O_DIRECT")
    for at in range(0, NBYTES, 32768):
        aio.write(fd, world.buf + at, 32768, at)
    aio.submit()


RUNS = {
    "phyr": direct("/mnt/f", "pwrite"),
    "phyr read": direct("/mnt/f", "pread", iommu="lazy"),
    "page": direct("/mnt/f", "pwrite", system="page", limits={"max_sectors": 64}),
    "page 6.1 read": direct("/mnt/f", "pread", system="page", kernel="6.1"),
    "unified": direct("/mnt/f", "pread", system="unified", sched="mq-deadline"),
    "bdev": direct("/dev/nvme0n1", "pwrite", sched="bfq"),
    "partition": direct("/mnt/f", "pwrite", stack="partition"),
    "stripe": direct("/mnt/f", "pread", stack="stripe"),
    "crypt": direct("/mnt/f", "pwrite", stack="crypt"),
    "crypt read": direct("/mnt/f", "pread", stack="crypt", sched="kyber"),
    "buffered read": (read, {}),
    "buffered write": (write, {}),
    "buffered write, walked": (write, {"completion": "folio_walk", "stack": "stripe"}),
    "coherent": (write_through, {"system": "page"}),
    "ring": (ring, {}),
    "ring of pages": (ring, {"system": "page"}),
    "batch": (batch, {"sched": "mq-deadline"}),
    "virtio": direct("/mnt/f", "pwrite", device="virtio", dma="swiotlb"),
    "virtio ring": (ring, {"device": "virtio", "profile": {"indirect": 0}}),
    "ahci": direct("/mnt/f", "pread", device="ahci", system="page", iommu="strict"),
    "ahci batch": (batch, {"device": "ahci", "dma": "xen", "profile": {"queue_depth": 1}}),
    "null": direct("/mnt/f", "pwrite", device="null"),
    "pmem": (write, {"device": "pmem"}),
    "bounced read": direct("/mnt/f", "pread", dma="swiotlb"),
    "xen ring": (ring, {"dma": "xen"}),
}


class World:
    """A machine with a file system, a file, and a buffer; `striker` watches what `go` does."""

    def __init__(self, run, striker):
        self._go, knobs = RUNS[run]
        self.machine = Machine(ram="96 MiB", watch=(striker,), **knobs)
        self.machine.volume.mkfs("ext4")
        self.machine.volume.create("f", 1 << 20)
        self.striker, self.task = striker, self.machine.task()
        self.buf = self.task.mmap(NBYTES)
        self.task.store(self.buf, bytes(range(256)) * 256)

    def open(self, path, flags):
        return self.task.open(path, "O_RDWR" + flags)

    def go(self):
        self.striker.told = Counter()
        self._go(self)
        return self.striker.told


@pytest.mark.parametrize("run", RUNS)
def test_ctrl_c_at_a_record_of_every_type_leaves_nothing_and_the_next_io_works(run, nothing_held):
    told = World(run, Striker()).go()
    assert len(told) >= 15
    for name, count in told.items():
        for k in {1, (count + 1) // 2, count}:
            world = World(run, Striker(name, k))
            with pytest.raises(KeyboardInterrupt):
                world.go()
            nothing_held(world.machine)
            world.task.fsync(world.open("/mnt/f", ""))
            assert world.go()
            nothing_held(world.machine)


def test_the_runs_tell_of_all_that_is_half_done_when_it_is_told():
    told = set().union(*(World(run, Striker()).go() for run in RUNS))
    assert told >= {
        "MmFilemapAddToPageCache", "PageCacheRaOrder", "FolioFlags", "FolioEndIo", "CopyFolio", "GupPin", "GupUnpin",
        "BlockSplit", "BlockBioRemap", "BlockRqInsert", "DmaMap", "DeviceDma", "NvmeCompleteRq", "DmaUnmap",
    }  # fmt: skip
