from itertools import pairwise

import pytest

from labkit.errors import BadInput
from labkit.machine import Machine
from labkit.machine.workload import Load, offer
from labkit.machine.workload.places import Places

SMALL = {"ram": "256 MiB"}


def offered(device="nvme", knobs=None, **how):
    with Machine(device=device, **SMALL | (knobs or {})) as machine:
        return offer(machine, **how)


@pytest.mark.parametrize("device", ["nvme", "optane", "virtio", "ahci", "disk", "pmem", "null", "delay"])
def test_every_device_serves_a_mixed_load_and_every_byte_is_right(device, nothing_held):
    with Machine(device=device, **SMALL) as machine:
        found = offer(machine, jobs=2, depth=3, count=120, read=0.5, size="512,4 KiB,16 KiB")
        assert (found.verified, found.errors, len(found.ios.ends)) == (True, {}, 120)
        assert found.moved == sum(rec.ret for rec in machine.trace.records if type(rec).__name__ == "SysExit")
        nothing_held(machine)


@pytest.mark.parametrize("arrivals", ["poisson", "uniform", "bursty"])
def test_an_open_loop_keeps_the_rate_that_it_was_given(arrivals):
    found = offered(count=2000, arrivals=arrivals, rate=50_000, seed=3)
    assert found.iops == pytest.approx(50_000, rel=0.1)
    assert found.verified


@pytest.mark.parametrize("arrivals", ["closed", "poisson"])
def test_littles_law_holds(arrivals):
    found = offered(jobs=2, depth=8, count=600, arrivals=arrivals, rate=100_000 if arrivals == "poisson" else 0)
    depth = found.ios.latencies.mean() * found.iops / 1e9
    assert found.ios.mean_depth() == pytest.approx(depth, rel=1e-9)
    assert depth == pytest.approx(16, rel=0.1) if arrivals == "closed" else depth > 1


def test_latency_grows_with_depth_once_the_dies_are_full_and_the_rate_does_not():
    found = {
        depth: offered("delay", depth=depth, count=2000, knobs={"profile": {"servers": 4}}) for depth in (1, 4, 16, 64)
    }
    rates = [found[depth].iops for depth in found]
    means = [found[depth].ios.latencies.mean() for depth in found]
    assert rates[1] > 3 * rates[0]
    assert rates[3] < 1.1 * rates[2]
    assert means[1] < 1.3 * means[0]
    assert means[3] > 3 * means[2] > 9 * means[1]


def test_an_open_loop_of_120_percent_of_the_capacity_falls_behind_and_of_80_does_not():
    most = offered("delay", depth=64, count=2000, knobs={"profile": {"servers": 4}}).iops
    halves = {}
    for share in (0.8, 1.2):
        knobs = {"profile": {"servers": 4}}
        found = offered("delay", knobs, count=3000, arrivals="poisson", rate=round(share * most))
        latencies = found.ios.latencies[found.ios.starts.argsort()]
        halves[share] = latencies[2000:].mean() / latencies[:1000].mean()
    assert halves[0.8] < 2
    assert halves[1.2] > 3


def test_a_busy_device_has_the_utilisation_of_its_rate():
    found = offered("null", count=200, arrivals="uniform", rate=1000)
    assert 0 < found.requests.busy() < 0.1
    assert offered(depth=32, count=500).requests.busy() > 0.95


def test_the_same_seed_offers_the_same_load():
    one, other, third = (offered(depth=4, count=100, read=0.5, seed=seed) for seed in (5, 5, 6))
    assert one.as_dict() == other.as_dict()
    assert one.as_dict()["histogram"] != third.as_dict()["histogram"]


def test_sequential_offsets_follow_each_other_task_by_task():
    with Machine(**SMALL) as machine:
        offer(machine, jobs=2, count=20, random=False)
        half = machine.volume.disk.nbytes // 2
        at = [rec.pos for rec in machine.trace.records if type(rec).__name__ == "SysEnter"]
    for first in (0, half):
        mine = [pos for pos in at if first <= pos < first + half]
        assert mine[0] == first
        assert all(b - a == 4096 for a, b in pairwise(mine))


def test_an_io_that_fails_is_counted_and_the_others_go_on(nothing_held):
    with Machine(**SMALL) as machine:
        machine.device.health.bad.append((0, machine.volume.disk.nbytes >> 10))
        found = offer(machine, depth=4, count=200, read=0.5)
        assert sum(found.errors.values()) + len(found.ios.ends) == 200
        assert found.errors["-ENODATA"] > 40
        assert found.verified
        nothing_held(machine)


def test_bytes_that_are_wrong_are_found():
    with Machine(**SMALL) as machine:
        peek, poke = machine.volume.disk.peek, machine.volume.disk.poke
        pos = []

        def spoil(at, data):
            pos.append(at)
            poke(at, data[:-1] + b"\xff" if len(pos) == 3 else data)

        load = Load(count=20)
        places = Places(load, machine.volume.disk.nbytes, spoil)
        taken = [places.take(0)[0] for _ in range(20)]
        differing = [at for at in taken if peek(at, 4096) != places.shadow[at : at + 4096]]
    assert differing == [pos[2]]


def test_a_write_has_its_cell_for_itself():
    places = Places(Load(depth=4, read=0.5, size="512"), 512 * 9, lambda _pos, _data: None)
    going = []
    for turn in range(500):
        pos, _, write = places.take(0)
        clash = [other for other in going if other[0] == pos and (write or other[1])]
        assert clash == []
        going.append((pos, write))
        if turn > 3:
            gone, write = going.pop(0)
            places.give(gone, write=write)


def test_it_shows_itself_as_text_and_as_a_page():
    found = offered(count=50, depth=2)
    bundle = found._repr_mimebundle_()
    assert "queue depth     2." in bundle["text/plain"] or "queue depth     1.9" in bundle["text/plain"]
    assert bundle["text/html"].count("<rect") == len(found.ios.histogram())
    assert "every one compared" in str(found)


def test_a_load_of_failures_alone_shows_itself_too():
    with Machine(**SMALL) as machine:
        machine.device.health.bad.append((0, machine.volume.disk.nbytes >> 9))
        found = offer(machine, count=5)
    assert (found.errors, found.iops, found.as_dict()["latency_ns"]["max"]) == ({"-ENODATA": 5}, 0.0, 0)
    assert "<svg" not in found._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"depth": 0}, "load: depth=0 is not from 1 to 65536 (-EINVAL)"),
        ({"read": 1.5}, "load: read=1.5 is not from 0 to 1 (-EINVAL)"),
        ({"count": "many"}, "load: count='many' is not from 1 to 1e+07 (-EINVAL)"),
        ({"size": 1000}, "load: size=1000 is not a multiple of 512 to 1 GiB (-EINVAL)"),
        ({"arrivals": "tidal"}, "load: arrivals='tidal' is none of closed, poisson, uniform, bursty (-EINVAL)"),
        ({"arrivals": "poisson"}, "load: arrivals=poisson needs a rate of IOs a second (-EINVAL)"),
        ({"rate": 5}, "load: arrivals=closed has no rate, and rate=5 (-EINVAL)"),
        ({"span": -1}, "load: span=-1 is negative (-EINVAL)"),
        ({"seed": True}, "load: seed=True is not from 0 to 9.22337e+18 (-EINVAL)"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused_in_one_sentence(how, sentence):
    with pytest.raises(BadInput) as bad:
        Load(**how)
    assert str(bad.value) == sentence


def test_a_load_that_finds_no_room_is_refused_and_nothing_has_begun():
    with Machine(**SMALL) as machine:
        with pytest.raises(BadInput, match=r"find no room side by side in \d+ bytes \(-ENOSPC\)"):
            offer(machine, depth=1000, size="1 GiB")
        assert machine.trace.records == ()


@pytest.mark.parametrize("device", ["nvme", "virtio", "ahci", "pmem"])
def test_whoever_is_interrupted_leaves_nothing_held(device, nothing_held):
    with Machine(device=device, **SMALL) as machine:
        machine.clock.later(200_000, machine.clock.interrupt, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            offer(machine, jobs=2, depth=8, count=10_000, read=0.5)
        nothing_held(machine)
        assert offer(machine, count=50).verified


@pytest.mark.host
def test_a_real_loop_device_serves_a_load():
    with Machine(device="loop", **SMALL) as machine:
        found = offer(machine, depth=4, count=100, read=0.5, size="512,4 KiB", span="1 MiB")
        assert (found.verified, found.errors, len(found.ios.ends)) == (True, {}, 100)
