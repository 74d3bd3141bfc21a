import errno

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.errors import BadInput
from labkit.hardware.clock import Clock
from labkit.hardware.ram import RAM
from labkit.kernel.block.bio import Op
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.plug import Plug
from labkit.kernel.block.stacked import Stripe
from labkit.scatter.memory_class import MemoryClass

BAR = MemoryClass("mmio", "gpu0")
BASE = 1 << 20


def stripe(world, n=2, chunk=16, limits=None, fates=None):
    fates = fates or [lambda _rq: 0] * n
    queues = [world.queue(limits=limits, fate=fate) for fate in fates]
    named = [(f"disk{i}", queue) for i, queue in enumerate(queues)]
    return Stripe(world.clock, "dm-0", named, chunk, world.raw.append), queues


def noise(nbytes, seed=1):
    return np.random.default_rng(seed).bytes(nbytes)


def striped(queues, chunk, nbytes):
    """Return the first bytes of the stripe, put together by hand."""
    size = chunk << 9
    rows = range(-(-nbytes // (size * len(queues))))
    return b"".join(q.driver.media[row * size : (row + 1) * size] for row in rows for q in queues)[:nbytes]


@pytest.mark.parametrize(
    ("sector", "target"),
    [(0, (0, 0)), (15, (0, 15)), (16, (1, 0)), (31, (1, 15)), (32, (2, 0)), (48, (0, 16)), (100, (0, 36))],
)
def test_chunks_go_to_the_targets_in_turn(world, sector, target):
    device, _ = stripe(world, 3)
    assert device.map(sector) == target


def test_a_write_is_cut_at_chunks_and_its_bytes_lie_where_they_belong(world):
    device, queues = stripe(world)
    world.ram.view(BASE, 20480)[:] = noise(20480)
    bio = world.bio(8, 20480, write=True, addr=BASE)
    assert world.run(device, bio) == [0]
    assert [queue.driver.requests() for queue in queues] == [[("W", 8, 8), ("W", 16, 16)], [("W", 0, 16)]]
    assert striped(queues, 16, 24576)[4096:] == noise(20480)
    remaps = [rec[4:] for rec in world.raw if rec[0] == "BlockBioRemap"]
    assert remaps == [(8, 8, 8, "disk0"), (16, 16, 0, "disk1"), (32, 16, 16, "disk0")]
    world.nothing_left()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 5), st.sampled_from([8, 16, 64]),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200)), min_size=1, max_size=6),
)  # fmt: skip
def test_what_is_written_is_read_back_and_each_byte_lies_on_one_target(world, n, chunk, writes):
    world = type(world)(clock=Clock(), ram=RAM(memoryview(bytearray(8 << 20))), raw=[], queues=[], count=0)
    device, queues = stripe(world, n, chunk)
    model = bytearray(512 * 512)
    for seed, (sector, nr) in enumerate(writes):
        data = noise(nr << 9, seed)
        world.ram.view(BASE, nr << 9)[:] = data
        model[sector << 9 : (sector + nr) << 9] = data
        assert world.run(device, world.bio(sector, nr << 9, write=True, addr=BASE)) == [0]
    assert striped(queues, chunk, len(model)) == model
    assert world.run(device, world.bio(0, len(model), addr=2 << 20)) == [0]
    assert world.ram.view(2 << 20, len(model)) == model
    world.nothing_left()


def test_the_first_error_is_the_error_and_all_clones_are_waited_for(world):
    slow = [lambda rq: errno.ENODATA if rq.sector else 0, lambda _rq: errno.ENOSPC]
    device, queues = stripe(world, fates=slow)
    queues[1].driver.service = 100
    bio = world.bio(0, 32768, addr=BASE)
    assert world.run(device, bio) == [errno.ENOSPC]
    assert sum(len(queue.driver.seen) for queue in queues) == 4
    assert world.clock.now > 1000
    world.nothing_left()


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_target_that_breaks_ends_the_bio_and_leaves_nothing(world, k):
    def fate(_rq):
        raise RuntimeError("a bug")

    device, _ = stripe(world, 3, fates=[fate if i == k else lambda _rq: 0 for i in range(3)])
    bio = world.bio(0, 3 * 8192, addr=BASE)
    job = world.clock.job(device.submit_bio(bio))
    with pytest.raises(RuntimeError, match="a bug"):
        world.clock.run(until=job)
    world.nothing_left()
    assert (bio.error, bio.done.processed) == (errno.EIO, True)


def test_a_bio_that_dies_while_it_waits_for_a_tag_leaves_nothing(world):
    device, _ = stripe(world, limits=QueueLimits(nr_requests=1))
    first, second = world.bio(0, addr=BASE), world.bio(32, addr=BASE)
    world.clock.job(device.submit_bio(first))
    dying = device.submit_bio(second)
    world.clock.job(dying)
    world.clock.run(until=500)
    with pytest.raises(KeyboardInterrupt):
        dying.throw(KeyboardInterrupt())
    world.nothing_left()
    assert (first.error, second.error, second.done.processed) == (0, errno.EIO, True)


@pytest.mark.parametrize(("nbytes", "kinds"), [(0, [["F"], ["F"]]), (16384, [["F", "W"], ["F", "W"]])])
def test_a_flush_goes_to_every_target_before_any_data(world, nbytes, kinds):
    device, queues = stripe(world, limits=QueueLimits(write_cache=True))
    assert world.run(device, world.bio(0, nbytes, write=True, addr=BASE, opf=Op.PREFLUSH)) == [0]
    assert [[kind for kind, _, _ in queue.driver.requests()] for queue in queues] == kinds
    world.nothing_left()


def test_a_flush_that_fails_at_one_target_keeps_the_data_back(world):
    fates = [lambda _rq: 0, lambda rq: errno.EIO if rq.is_flush else 0]
    device, queues = stripe(world, limits=QueueLimits(write_cache=True), fates=fates)
    assert world.run(device, world.bio(0, 16384, write=True, addr=BASE, opf=Op.PREFLUSH)) == [errno.EIO]
    assert {kind for queue in queues for kind, _, _ in queue.driver.requests()} == {"F"}
    world.nothing_left()


def test_one_plug_spans_all_targets_and_clones_merge_in_it(world):
    device, queues = stripe(world, chunk=8)
    plug = Plug()

    def task():
        for i in range(8):
            yield from device.submit_bio(world.bio(8 * i, addr=BASE + 4096 * i), plug)
        assert len(plug.held) > 0
        assert not queues[0].driver.seen
        yield from device.flush(plug)

    world.clock.run(until=world.clock.job(task()))
    assert plug.held == []
    covered = [[(s, n) for _, s, n in queue.driver.requests()] for queue in queues]
    assert covered == [[(0, 32)]] * 2
    world.nothing_left()


def test_memory_of_a_device_passes_a_stripe(world):
    device, queues = stripe(world)
    assert device.needs_cpu_access is False
    assert world.run(device, world.bio(0, 16384, write=True, addr=BASE, cls=BAR)) == [0]
    assert [queue.driver.requests() for queue in queues] == [[("W", 0, 16)]] * 2


def test_a_stripe_takes_what_all_targets_take_and_tells_its_chunk(world):
    weak = QueueLimits(max_sectors=64, max_segments=7, physical_block_size=4096)
    named = [("a", world.queue()), ("b", world.queue(limits=weak)), ("c", world.queue())]
    limits = Stripe(world.clock, "dm-0", named, 128, world.raw.append).limits
    assert (limits.max_sectors, limits.max_segments, limits.physical_block_size) == (64, 7, 4096)
    assert (limits.chunk_sectors, limits.io_min, limits.io_opt) == (128, 65536, 196608)


@pytest.mark.parametrize("chunk", [0, 4, 12, -8])
def test_a_chunk_is_a_whole_number_of_pages(world, chunk):
    with pytest.raises(BadInput, match="whole number of pages"):
        stripe(world, chunk=chunk)


def test_a_device_of_nothing_is_refused(world):
    with pytest.raises(BadInput, match="no target"):
        Stripe(world.clock, "dm-0", [], 8, world.raw.append)


ATOMIC = QueueLimits(nr_requests=32, max_hw_sectors=1024, atomic_write_unit_min=4096, atomic_write_unit_max=131072)


@pytest.mark.parametrize(("chunk", "most"), [(16, 8192), (24, 4096), (48, 8192), (512, 131072)])
def test_an_atomic_write_to_a_stripe_is_a_power_of_two_that_divides_a_chunk(world, chunk, most):
    device, _ = stripe(world, chunk=chunk, limits=ATOMIC)
    assert (device.limits.atomic_write_unit_min, device.limits.atomic_write_unit_max) == (4096, most)


@pytest.mark.parametrize(
    ("sector", "nbytes", "error"), [(0, 8192, 0), (16, 8192, 0), (8, 8192, errno.EINVAL), (0, 16384, errno.EINVAL)]
)
def test_rule_split5_an_atomic_write_is_never_sent_on_in_parts(world, sector, nbytes, error):
    device, queues = stripe(world, chunk=16, limits=ATOMIC)
    bio = world.bio(sector, nbytes, write=True, opf=Op.ATOMIC)
    assert world.run(device, bio) == [error]
    assert sum(len(queue.driver.seen) for queue in queues) == (0 if error else 1)
    world.nothing_left()


def test_rule_blk2_a_stack_has_nowait_where_all_of_it_has(world):
    queues = [world.queue(limits=QueueLimits(nr_requests=32, nowait=nowait)) for nowait in (True, False)]
    device = Stripe(world.clock, "dm-0", [("a", queues[0]), ("b", queues[1])], 16, world.raw.append)
    bio = world.bio(0, opf=Op.NOWAIT)
    assert world.run(device, bio) == [errno.EOPNOTSUPP]
    assert str(bio.why) == "dm-0: NOWAIT is not for a device that may sleep (BLK-2) (-EOPNOTSUPP)"
    world.nothing_left()
