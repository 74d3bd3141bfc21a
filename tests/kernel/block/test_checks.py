import errno

import pytest

from labkit.kernel.block.bio import Op
from labkit.kernel.block.checks import refused, unaligned, unpolled
from labkit.kernel.block.limits import QueueLimits

ATOMIC = QueueLimits(max_hw_sectors=1024, atomic_write_unit_min=4096, atomic_write_unit_max=16384)
SLOW = QueueLimits(nowait=False)


@pytest.mark.parametrize(
    ("limits", "sector", "nbytes", "opf", "sentence"),
    [
        (SLOW, 0, 4096, Op.NOWAIT, "nvme0: NOWAIT is not for a device that may sleep (BLK-2) (-EOPNOTSUPP)"),
        (SLOW, 0, 4096, 0, None),
        (QueueLimits(), 0, 4096, Op.NOWAIT, None),
        (QueueLimits(), 993, 4096, 0, "nvme0: sectors 993+8 lie beyond the end of 1000 (BLK-2) (-EIO)"),
        (QueueLimits(), 992, 4096, 0, None),
        (QueueLimits(), 2000, 0, 0, None),
        (ATOMIC, 0, 4096, Op.ATOMIC, None),
        (ATOMIC, 0, 32768, 0, None),
        (ATOMIC, 0, 32768, Op.ATOMIC,
         "nvme0: 32768 bytes cannot be atomic: the device takes multiples of 4096, 16384 at most (BLK-2) (-EINVAL)"),
        (ATOMIC, 0, 512, Op.ATOMIC,
         "nvme0: 512 bytes cannot be atomic: the device takes multiples of 4096, 16384 at most (BLK-2) (-EINVAL)"),
    ],
)  # fmt: skip
def test_rule_blk2_what_a_device_refuses_before_it_looks_at_the_data(world, limits, sector, nbytes, opf, sentence):
    bad = refused(world.bio(sector, nbytes, opf=opf), limits, "nvme0", 1000)
    assert (str(bad) if bad else None) == sentence


def test_where_nobody_knows_the_end_there_is_none(world):
    assert refused(world.bio(1 << 40), QueueLimits(), "nvme0") is None


@pytest.mark.parametrize(("sector", "nbytes", "fits"), [(8, 4096, True), (1, 4096, False), (8, 512, False)])
def test_rule_blk2_a_bio_is_of_whole_logical_blocks(world, sector, nbytes, fits):
    bad = unaligned(world.bio(sector, nbytes), QueueLimits(logical_block_size=4096))
    assert (bad.errno if bad else 0) == (0 if fits else errno.EIO)


@pytest.mark.parametrize(
    ("kernel", "error"), [("6.1", 0), ("6.12", 0), ("6.18", errno.EOPNOTSUPP), ("7.3", errno.EOPNOTSUPP)]
)
def test_rule_blk2_a_queue_without_polling_refuses_what_is_polled_for_or_forgets_that(world, kernel, error):
    queue = world.queue(kernel=kernel)
    assert world.run(queue, world.bio(0, opf=Op.POLLED)) == [error]
    assert len(queue.driver.seen) == (0 if error else 1)
    world.nothing_left()


def test_what_nobody_polls_for_goes_as_it_is(world):
    bio = world.bio(0, opf=Op.SYNC)
    assert unpolled(bio, refuses=True) is None
    assert bio.opf == Op.SYNC


@pytest.mark.parametrize(
    ("limits", "sector", "nbytes", "opf", "error"),
    [
        (QueueLimits(nowait=False), 0, 4096, Op.NOWAIT, errno.EOPNOTSUPP),
        (QueueLimits(logical_block_size=4096), 1, 4096, 0, errno.EIO),
        (ATOMIC, 0, 32768, Op.ATOMIC, errno.EINVAL),
    ],
)
def test_a_queue_ends_a_bio_that_it_refuses_and_nothing_is_held(world, limits, sector, nbytes, opf, error):
    queue = world.queue(limits=limits)
    bio = world.bio(sector, nbytes, write=True, opf=opf)
    assert world.run(queue, bio) == [error]
    assert bio.why.errno == error
    assert queue.driver.seen == []
    world.nothing_left()
