"""One 8 KiB O_DIRECT write, floor by floor: frames 7 and 33, file offset 8192, behind a strict IOMMU."""

import pytest

from labkit.machine import Machine
from labkit.trace.events import (
    BlkdevDirectIO,
    BlockBioQueue,
    BlockGetrq,
    BlockRqComplete,
    BlockRqIssue,
    DeviceDma,
    DeviceStart,
    DmaMap,
    DmaUnmap,
    GupPin,
    GupUnpin,
    IotlbFill,
    Mmap,
    MmPageAlloc,
    NvmeCompleteRq,
    NvmeSetupCmd,
    SysEnter,
    SysExit,
)

BUF = 0x7F00_0000_0000
FRAMES = ((0x7000, 4096), (0x21000, 4096))
IOVA = 0xFF7F_E000
QUEUE = 0xFFFF_0000
"""Where the device finds its submission queue."""
SQE = (
    "01000000010000000000000000000000000000000000000000e07fff00000000"
    "00f07fff0000000010000000000000000f000000000000000000000000000000"
)  # fmt: skip


def walk(system):
    """Write 8 KiB from frames 7 and 33 to byte 8192, and return every record."""
    machine = Machine(system=system, iommu="strict", fragmentation=0, ram="64 MiB", seed=1)
    task = machine.task()
    machine.buddy.zones[0].pcp[0] = [33, 7]
    buf, fd = task.mmap("8 KiB"), task.open("/dev/nvme0n1", "O_RDWR|O_DIRECT")
    task.store(buf, bytes(8192))
    assert task.pwrite(fd, buf, "8 KiB", offset=8192) == 8192
    return list(machine.trace)


def test_phyr():
    assert walk("phyr") == [
        Mmap(t=0, io=0, addr=BUF, len=8192, prot="rw-", name="anon 4 KiB"),
        MmPageAlloc(t=0, io=0, addr=BUF, order=0, refs=1, ranges=FRAMES),
        SysEnter(t=0, io=1, name="pwrite64", fd=3, buf=BUF, nbytes=8192, pos=8192),
        GupPin(
            t=120, io=1, token=1, policy="range", addr=BUF, ranges=FRAMES, ptes=2, atomics=2, struct_pages=0,
            descriptor_bytes=32, cache_lines=1,
        ),
        BlkdevDirectIO(t=170, io=1, pos=8192, nbytes=8192, path="simple"),
        BlockBioQueue(t=230, io=1, bio=1, sector=16, nr_sector=16, vecs=2, start=0, rwbs="WS"),
        BlockGetrq(t=320, io=1, bio=1, rq=1, tag=0, sector=16, nr_sector=16, segments=2),
        DmaMap(
            t=320, io=1, rq=1, dma=((IOVA, 8192),), phys=FRAMES, maps=2, conversions=0, struct_pages=0,
            descriptor_bytes=16, how="iova", ioptes=2,
        ),
        NvmeSetupCmd(
            t=388, io=1, rq=1, cid=0, slba=16, length=8192, prp1=IOVA, prp2=IOVA + 4096, prps=2, descriptor_bytes=0,
            sqe=SQE,
        ),
        BlockRqIssue(t=652, io=1, rq=1, tag=0, sector=16, nr_sector=16),
        DeviceStart(t=652, io=1, rq=1, unit=2),
        DeviceDma(t=20789, io=1, rq=1, write=True, len=8192),
        IotlbFill(t=20789, io=1, rq=1, filled=((QUEUE, 4096), (IOVA, 8192)), evicted=(), hits=0, misses=3),
        NvmeCompleteRq(t=20789, io=1, rq=1, cid=0, status=0),
        DmaUnmap(t=21789, io=1, rq=1, syncs=1, stale=False),
        BlockRqComplete(t=22489, io=1, rq=1, tag=0, sector=16, nr_sector=16, error=0),
        GupUnpin(t=22489, io=1, token=1, atomics=2, struct_pages=0, ns=22),
        SysExit(t=23411, io=1, name="pwrite64", ret=8192),
    ]  # fmt: skip


def test_page():
    assert walk("page") == [
        Mmap(t=0, io=0, addr=BUF, len=8192, prot="rw-", name="anon 4 KiB"),
        MmPageAlloc(t=0, io=0, addr=BUF, order=0, refs=1, ranges=FRAMES),
        SysEnter(t=0, io=1, name="pwrite64", fd=3, buf=BUF, nbytes=8192, pos=8192),
        BlkdevDirectIO(t=120, io=1, pos=8192, nbytes=8192, path="simple"),
        GupPin(
            t=120, io=1, token=1, policy="page", addr=BUF, ranges=FRAMES, ptes=2, atomics=2, struct_pages=2,
            descriptor_bytes=64, cache_lines=2,
        ),
        BlockBioQueue(t=230, io=1, bio=1, sector=16, nr_sector=16, vecs=2, start=0, rwbs="WS"),
        BlockGetrq(t=320, io=1, bio=1, rq=1, tag=0, sector=16, nr_sector=16, segments=2),
        DmaMap(
            t=320, io=1, rq=1, dma=((IOVA, 8192),), phys=FRAMES, maps=2, conversions=2, struct_pages=2,
            descriptor_bytes=16, how="iova", ioptes=2,
        ),
        NvmeSetupCmd(
            t=388, io=1, rq=1, cid=0, slba=16, length=8192, prp1=IOVA, prp2=IOVA + 4096, prps=2, descriptor_bytes=0,
            sqe=SQE,
        ),
        BlockRqIssue(t=652, io=1, rq=1, tag=0, sector=16, nr_sector=16),
        DeviceStart(t=652, io=1, rq=1, unit=2),
        DeviceDma(t=20789, io=1, rq=1, write=True, len=8192),
        IotlbFill(t=20789, io=1, rq=1, filled=((QUEUE, 4096), (IOVA, 8192)), evicted=(), hits=0, misses=3),
        NvmeCompleteRq(t=20789, io=1, rq=1, cid=0, status=0),
        DmaUnmap(t=21789, io=1, rq=1, syncs=1, stale=False),
        BlockRqComplete(t=22489, io=1, rq=1, tag=0, sector=16, nr_sector=16, error=0),
        GupUnpin(t=22489, io=1, token=1, atomics=2, struct_pages=2, ns=22),
        SysExit(t=23411, io=1, name="pwrite64", ret=8192),
    ]  # fmt: skip


@pytest.mark.parametrize("system", ["phyr", "page"])
def test_every_record_has_its_type(system):
    for record in walk(system):
        for value, kind in zip(record, type(record).__annotations__.values(), strict=True):
            if kind in {int, str, bool}:
                assert type(value) is kind, record
            else:
                assert type(value) is tuple, record
                assert {type(part) for part in value} == ({tuple} if value else set()), record
                assert {type(number) for part in value for number in part} <= {int}, record
