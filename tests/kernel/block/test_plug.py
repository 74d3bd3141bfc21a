import pytest

from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.plug import BLK_MAX_REQUEST_COUNT, BLK_PLUG_FLUSH_SIZE, Plug

APART = QueueLimits(nr_requests=128, max_sectors=2560, nomerges=2)


def plugged(world, plug, *sent):
    """Let one task send a bio to each (queue, sector, bytes) with `plug`; return after how many it was flushed."""
    flushed = []

    def seen():
        return sum(len(queue.driver.seen) for queue in world.queues)

    def task():
        for number, (queue, sector, nbytes) in enumerate(sent):
            before = seen()
            yield from queue.submit_bio(world.bio(sector, nbytes, addr=1 << 20), plug)
            if seen() > before:
                flushed.append(number)
        yield from plug.flush()

    world.clock.job(task())
    world.clock.run()
    world.nothing_left()
    return flushed


def test_the_kernels_numbers():
    assert (BLK_MAX_REQUEST_COUNT, BLK_PLUG_FLUSH_SIZE) == (32, 131072)


def test_a_plug_holds_32_requests(world):
    queue = world.queue(limits=APART)
    assert plugged(world, Plug(), *[(queue, 16 * i, 4096) for i in range(70)]) == [32, 64]


def test_a_plug_for_several_queues_holds_64(world):
    one, other = world.queue(limits=APART), world.queue(limits=APART)
    sent = [((one, other)[i % 2], 16 * i, 4096) for i in range(140)]
    assert plugged(world, Plug(), *sent) == [64, 128]


@pytest.mark.parametrize(
    ("kernel", "kib", "flushed"),
    [("6.1", (124, 128, 4, 4), [2]), ("6.12", (124, 128, 4, 4), []), ("7.3", (124, 128, 4, 4), []),
     ("6.1", (128, 4, 4, 4), [1]), ("6.12", (128, 4, 4, 4), [1]), ("7.3", (128, 4, 4, 4), [1]),
     ("6.1", (4, 4, 128, 4), [3]), ("7.3", (4, 4, 128, 4), [])],
)  # fmt: skip
def test_rule_r14_a_request_of_128_kib_sends_all_on_and_which_one_counts_is_the_kernels(world, kernel, kib, flushed):
    queue = world.queue(kernel=kernel, limits=QueueLimits(nr_requests=128, max_sectors=2560))
    assert plugged(world, Plug(), *[(queue, 1024 * i, size << 10) for i, size in enumerate(kib)]) == flushed


def test_a_bio_joins_the_last_request_of_its_queue(world):
    queue = world.queue()
    plugged(world, Plug(), (queue, 0, 4096), (queue, 64, 4096), (queue, 8, 4096), (queue, 72, 4096))
    assert queue.driver.requests() == [("R", 0, 8), ("R", 64, 8), ("R", 8, 8), ("R", 72, 8)]


def test_with_several_queues_it_joins_the_first_one_of_its_queue(world):
    one, other = world.queue(), world.queue()
    plug, addr = Plug(), 1 << 20

    def task():
        for queue, sector, at in ((one, 0, 0), (one, 64, 1), (other, 0, 2), (one, 8, 3)):
            yield from queue.submit_bio(world.bio(sector, addr=addr + 65536 * at), plug)
        yield from plug.flush()

    world.clock.job(task())
    world.clock.run()
    assert one.driver.requests() == [("R", 0, 16), ("R", 64, 8)]
    assert other.driver.requests() == [("R", 0, 8)]
    world.nothing_left()


@pytest.mark.parametrize(("kernel", "order"), [("6.1", [64, 32, 0]), ("6.18", [0, 32, 64])])
def test_the_order_of_a_plug_is_the_kernels(world, kernel, order):
    queue = world.queue(kernel=kernel, limits=APART)
    plugged(world, Plug(), *[(queue, sector, 4096) for sector in (0, 32, 64)])
    assert [sector for _, sector, _ in queue.driver.requests()] == order


def test_a_task_that_breaks_at_one_queue_leaves_nothing_in_the_others(world):
    def fate(_rq):
        raise RuntimeError("a bug")

    good, bad = world.queue(limits=APART), world.queue(limits=APART, fate=fate)
    plug = Plug()
    bios = [world.bio(16 * i) for i in range(6)]

    def task():
        for i, bio in enumerate(bios):
            yield from (bad, good)[i % 2].submit_bio(bio, plug)
        yield from plug.flush()

    job = world.clock.job(task())
    with pytest.raises(RuntimeError, match="a bug"):
        world.clock.run(until=job)
    for _ in range(2):  # the two other requests of the bad queue are tried by its worker
        with pytest.raises(RuntimeError, match="a bug"):
            world.clock.run()
    world.nothing_left()
    assert [bio.error for bio in bios] == [5, 0, 5, 0, 5, 0]
