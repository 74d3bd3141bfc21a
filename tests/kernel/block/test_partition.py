import errno

import pytest

from labkit.errors import BadInput
from labkit.kernel.block.bio import Op
from labkit.kernel.block.flush import blkdev_issue_flush
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.partition import Partition


def partition(world, start=2048, nr_sects=64, limits=None, **disk):
    queue = world.queue(limits=limits, **disk)
    return Partition(world.clock, queue, "disk1", start, nr_sects, world.raw.append), queue


def test_a_bio_goes_to_the_disk_with_another_sector_and_its_bytes(world):
    part, queue = partition(world)
    world.ram.view(1 << 20, 4096)[:] = b"p" * 4096
    assert world.run(part, world.bio(8, write=True, addr=1 << 20)) == [0]
    assert world.raw[:2] == [
        ("BlockBioRemap", 0, 1, 1, 8, 8, 2056, "disk1"),
        ("BlockBioQueue", 0, 1, 1, 2056, 8, 1, 0, "W"),
    ]
    assert queue.driver.requests() == [("W", 2056, 8)]
    assert queue.driver.media[2056 * 512 : 2064 * 512] == b"p" * 4096
    world.nothing_left()


@pytest.mark.parametrize(("sector", "pages", "error"), [(56, 1, 0), (56, 2, 5), (57, 1, 5), (64, 1, 5), (10**9, 1, 5)])
def test_beyond_the_end_is_an_error_and_the_disk_hears_nothing(world, sector, pages, error):
    part, queue = partition(world)
    bio = world.bio(sector, 4096 * pages, addr=1 << 20)
    assert world.run(part, bio) == [error]
    assert bool(queue.driver.seen) == (error == 0)
    if error:
        assert world.raw == []
        where = f"disk1: sectors {sector}+{8 * pages}"
        assert str(bio.why) == f"{where} lie beyond the end of 64 (submit_bio_noacct) (-EIO)"
    world.nothing_left()


def test_a_flush_is_for_the_whole_disk(world):
    part, queue = partition(world, limits=QueueLimits(write_cache=True))
    world.clock.job(blkdev_issue_flush(part, world.clock, 1))
    world.clock.run()
    assert queue.driver.requests() == [("F", 0, 0)]
    world.nothing_left()


def test_a_partition_of_a_partition_adds_up(world):
    part, queue = partition(world)
    inner = Partition(world.clock, part, "disk1p1", 16, 32, world.raw.append)
    assert world.run(inner, world.bio(8)) == [0]
    assert queue.driver.requests() == [("R", 2072, 8)]


@pytest.mark.parametrize(("start", "offset"), [(2048, 0), (63, 512), (1, 3584), (7, 512)])
def test_a_start_inside_a_physical_block_is_warned_of(world, start, offset):
    part, _ = partition(world, start, limits=QueueLimits(physical_block_size=4096))
    assert part.alignment_offset == offset
    assert part.warning.startswith(f"disk1: sector {start} lies inside a physical block of 4096 bytes") == bool(offset)
    assert bool(part.warning) == bool(offset)


@pytest.mark.parametrize(("start", "nr_sects"), [(2048, 0), (2049, 64), (2048, 63)])
def test_a_partition_is_of_whole_blocks(world, start, nr_sects):
    with pytest.raises(BadInput) as caught:
        partition(world, start, nr_sects, QueueLimits(logical_block_size=4096))
    assert caught.value.errno == errno.EINVAL


def test_a_partition_has_the_limits_of_its_disk_and_looks_at_no_byte(world):
    part, queue = partition(world)
    assert (part.limits, part.needs_cpu_access, part.nbytes) == (queue.limits, False, 32768)


def test_nowait_comes_through(world):
    part, queue = partition(world, limits=QueueLimits(nr_requests=1))
    assert world.run(part, world.bio(0), world.bio(16, opf=Op.NOWAIT)) == [0, errno.EAGAIN]
    assert queue.tags.waiting == 0
    world.nothing_left()
