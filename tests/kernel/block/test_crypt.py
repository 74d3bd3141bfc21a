import errno

import numpy as np
import pytest

from labkit.errors import SyscallError
from labkit.kernel.block.bio import Op
from labkit.kernel.block.crypt import Crypt
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.partition import Partition
from labkit.kernel.block.stacked import Stripe
from labkit.scatter.memory_class import RAM, MemoryClass

BAR = MemoryClass("mmio", "gpu0")
BASE = 1 << 20


class Bounce:
    """Pages from 10 MiB on, `most` at a time."""

    def __init__(self, most=512):
        self.free_pages, self.held = list(range(most)), []

    def alloc(self, nbytes):
        need = -(-nbytes // 4096)
        if need > len(self.free_pages):
            raise SyscallError("crypt", f"{nbytes} bytes", "are not to be had", errno.ENOMEM)
        taken = [self.free_pages.pop() for _ in range(need)]
        ranges = [((10 << 20) + 4096 * page, 4096) for page in taken]
        ranges[-1] = (ranges[-1][0], nbytes - 4096 * (need - 1))
        self.held.append(tuple(ranges))
        return self.held[-1]

    def free(self, ranges):
        self.held.remove(ranges)
        self.free_pages += [(addr - (10 << 20)) // 4096 for addr, _ in ranges]


def crypt(world, key=b"key", most=512, limits=None, **disk):
    queue = world.queue(limits=limits, **disk)
    pages = Bounce(most)
    options = {"page_ns": 100}
    return Crypt(world.clock, "dm-1", ("disk", queue), key, world.ram, pages, world.raw.append, **options), queue, pages


def noise(nbytes, seed=1):
    return np.random.default_rng(seed).bytes(nbytes)


@pytest.mark.parametrize("nbytes", [512, 4096, 12288, 12800, 3 << 20])
def test_the_medium_holds_other_bytes_the_user_reads_his_own_and_his_buffer_is_not_touched(world, nbytes):
    device, queue, pages = crypt(world, most=1024)
    data = noise(nbytes)
    world.ram.view(BASE, nbytes)[:] = data
    assert world.run(device, world.bio(16, nbytes, write=True, addr=BASE)) == [0]
    on_disk = queue.driver.media[16 * 512 : 16 * 512 + nbytes]
    assert on_disk != data
    assert sum(a == b for a, b in zip(on_disk, data, strict=True)) < nbytes / 16
    assert world.ram.view(BASE, nbytes) == data
    world.ram.view(BASE, nbytes)[:] = bytes(nbytes)
    assert world.run(device, world.bio(16, nbytes, addr=BASE)) == [0]
    assert world.ram.view(BASE, nbytes) == data
    assert pages.held == []
    world.nothing_left()


def test_a_sector_is_encrypted_by_its_number_and_the_key(world):
    device, _, _ = crypt(world)
    other, _, _ = crypt(world, key=b"other")
    one = device.transform(bytes(1024), 7)
    assert one[:512] != one[512:]
    assert one[512:] == device.transform(bytes(512), 8)
    assert one[:512] != other.transform(bytes(512), 7)
    assert device.transform(one, 7) == bytes(1024)


def test_a_part_of_what_was_written_can_be_read_alone(world):
    device, _, _ = crypt(world)
    world.ram.view(BASE, 8192)[:] = noise(8192)
    assert world.run(device, world.bio(0, 8192, write=True, addr=BASE)) == [0]
    assert world.run(device, world.bio(5, 512, addr=BASE + 65536)) == [0]
    assert world.ram.view(BASE + 65536, 512) == noise(8192)[2560:3072]


@pytest.mark.parametrize("write", [False, True])
def test_memory_without_a_cpu_mapping_is_refused_before_anything_is_sent(world, write):
    device, queue, pages = crypt(world)
    bio = world.bio(0, 8192, write=write, addr=BASE, cls=BAR)
    assert world.run(device, bio) == [errno.EINVAL]
    assert str(bio.why) == (
        "dm-1: 8192 bytes of mmio memory of gpu0 are not mapped for the CPU, which must encrypt them (D-14) (-EINVAL)"
    )
    assert (world.raw, queue.driver.seen, pages.held) == ([], [], [])
    world.nothing_left()


def test_memory_of_a_device_that_is_mapped_passes(world):
    queue, pages = world.queue(), Bounce()
    device = Crypt(world.clock, "dm-1", ("disk", queue), b"k", world.ram, pages, world.raw.append, mapped={RAM, BAR})
    assert world.run(device, world.bio(0, 8192, write=True, addr=BASE, cls=BAR)) == [0]
    assert world.run(device, world.bio(0, 8192, addr=BASE, cls=BAR)) == [0]


def test_who_looks_at_the_bytes_is_told_by_a_table(world):
    device, queue, _ = crypt(world)
    stripe = Stripe(world.clock, "dm-0", [("a", queue)], 8, world.raw.append)
    part = Partition(world.clock, queue, "disk1", 0, 64, world.raw.append)
    assert {type(each).__name__: each.needs_cpu_access for each in (queue, part, stripe, device)} == {
        "RequestQueue": False, "Partition": False, "Stripe": False, "Crypt": True,
    }  # fmt: skip


@pytest.mark.parametrize("write", [False, True])
def test_a_device_that_fails_leaves_no_page_and_what_came_is_not_decrypted(world, write):
    device, _, pages = crypt(world, fate=lambda _rq: errno.ENODATA)
    world.ram.view(BASE, 8192)[:] = noise(8192)
    assert world.run(device, world.bio(0, 8192, write=write, addr=BASE)) == [errno.ENODATA]
    assert world.ram.view(BASE, 8192) == noise(8192)
    assert pages.held == []
    world.nothing_left()


@pytest.mark.parametrize("write", [False, True])
def test_a_driver_that_breaks_leaves_no_page(world, write):
    def fate(_rq):
        raise RuntimeError("a bug")

    device, _, pages = crypt(world, fate=fate)
    bio = world.bio(0, 8192, write=write, addr=BASE)
    with pytest.raises(RuntimeError, match="a bug"):
        world.run(device, bio)
    world.nothing_left()
    assert (bio.error, bio.done.processed, pages.held) == (errno.EIO, True, [])


def test_no_pages_is_an_error_of_the_bio_and_what_was_sent_before_is_waited_for(world):
    device, queue, pages = crypt(world, most=300, service=10_000_000)
    bio = world.bio(0, 2 << 20, write=True, addr=BASE)
    assert world.run(device, bio) == [errno.ENOMEM]
    assert sum(nr for _, _, nr in queue.driver.requests()) == 2048
    assert (pages.held, bio.done.processed) == ([], True)
    world.nothing_left()


def test_memory_that_does_not_answer_leaves_no_page(world):
    device, _, pages = crypt(world)
    bio = world.bio(0, 8192, write=True, addr=1 << 40)
    with pytest.raises(Exception, match="no memory answers"):
        world.run(device, bio)
    assert (bio.error, bio.done.triggered, pages.held) == (errno.EIO, True, [])


@pytest.mark.parametrize("until", [0, 100, 150, 300])
def test_a_task_that_dies_leaves_no_page(world, until):
    device, _, pages = crypt(world, limits=QueueLimits(nr_requests=1))
    first, bio = world.bio(0, addr=BASE), world.bio(8, 8192, write=True, addr=BASE)
    world.clock.job(device.submit_bio(first))
    dying = device.submit_bio(bio)
    world.clock.job(dying)
    world.clock.run(until=until + 100)
    with pytest.raises(KeyboardInterrupt):
        dying.throw(KeyboardInterrupt())
    world.nothing_left()
    assert (bio.error, bio.done.processed, pages.held) == (errno.EIO, True, [])


def test_encryption_takes_its_time_for_each_page(world):
    device, _, _ = crypt(world)
    world.run(device, world.bio(0, 16384, write=True, addr=BASE))
    assert next(rec[1] for rec in world.raw if rec[0] == "BlockBioRemap") == 400


def test_a_flush_passes_and_fua_stays_with_the_data(world):
    device, queue, _ = crypt(world, limits=QueueLimits(write_cache=True, fua=True))
    assert world.run(device, world.bio(0, 4096, write=True, addr=BASE, opf=Op.PREFLUSH | Op.FUA)) == [0]
    assert [each[1:] for each in queue.driver.seen] == [("F", 0, 0, 0), ("W", 0, 8, Op.FUA)]
    world.nothing_left()


def test_encryption_takes_segments_of_one_page(world):
    device, _, _ = crypt(world)
    assert (device.limits.max_segment_size, device.limits.dma_alignment) == (4096, 511)
