from dataclasses import replace
from random import Random

import numpy as np
import pytest

from labkit.errors import BadInput
from labkit.hardware.clock import Clock
from labkit.hardware.media.disk import Disk, DiskProfile
from labkit.machine import DATA

# A turn is 1 ms. Zone 0 is 5 tracks of 8 KiB (cylinders 0 to 4), zone 1 is 10 tracks of 4 KiB (cylinders 5 to 14).
SMALL = DiskProfile(
    nbytes=80 << 10, rpm=60_000, zones=2, heads=1, track_seek_ns=100, full_seek_ns=1400,
    outer_bytes_per_ns=0.008192, inner_bytes_per_ns=0.004096,
)  # fmt: skip


def disk():
    clock = Clock()
    medium = Disk(clock, memoryview(bytearray(SMALL.nbytes)), SMALL)
    medium._first = 0  # byte 0 is under the head at 0
    return clock, medium


def pass_time(clock, ns):
    clock.later(ns, lambda: None)
    clock.run()


@pytest.mark.parametrize(
    ("pos", "place"),
    [
        (0, (0, 0, 8192)),
        (4096, (0, 500_000, 8192)),
        (8192, (1, 0, 8192)),
        (40 << 10, (5, 0, 4096)),
        (45 << 10, (6, 250_000, 4096)),
        ((80 << 10) - 512, (14, 875_000, 4096)),
    ],
)
def test_a_byte_has_a_cylinder_and_an_angle(pos, place):
    assert disk()[1].place(pos) == place


def test_a_seek_grows_with_the_root_of_its_distance():
    _, medium = disk()
    # 1300 * sqrt(4 / 13) = 721 from cylinder 0 to 5
    assert [medium.seek(0, there) for there in (0, 1, 5, 14)] == [0, 100, 821, 1400]
    assert medium.seek(14, 0) == 1400


def test_a_way_across_the_disk_is_no_shorter_than_one_to_the_next_cylinder():
    with pytest.raises(BadInput, match=r"^profile: full_seek_ns=99 is less than track_seek_ns=100 \(-EINVAL\)$"):
        Disk(Clock(), memoryview(bytearray(SMALL.nbytes)), replace(SMALL, full_seek_ns=99))


def test_the_head_waits_for_the_sector_and_reads_it_as_it_goes_by():
    _, medium = disk()
    assert medium.reserve(4096, 512, write=False) == (0, 500_000 + 62_500, 0)
    # at 562500 it seeks 821, then waits for the turn to end, and a track of 4 KiB has 8 sectors
    assert medium.reserve(40 << 10, 512, write=True) == (562_500, 1_000_000 - 562_500 + 125_000, 0)
    assert medium.flush() == 1_125_000


def test_who_comes_in_time_reads_on_and_who_comes_late_waits_for_a_turn():
    for late, rotation in ((0, 0), (1, 999_999)):
        clock, medium = disk()
        medium.reserve(0, 512, write=False)
        pass_time(clock, 62_500 + late)
        assert medium.reserve(512, 512, write=False) == (0, rotation + 62_500, 0)


def test_the_outer_tracks_go_by_faster():
    _, medium = disk()
    assert medium.reserve(0, 32 << 10, write=False) == (0, 4_000_000, 0)
    assert medium.reserve(40 << 10, 32 << 10, write=False).busy == pytest.approx(8_000_000, rel=0.13)  # and a seek


def test_the_seed_says_where_the_platter_stands():
    turns = {
        Disk(Clock(), memoryview(bytearray(80 << 10)), SMALL, seed).reserve(0, 512, write=False) for seed in (1, 2, 1)
    }
    assert len(turns) == 2


def test_a_random_read_takes_an_average_seek_and_half_a_turn():
    def zeros(nbytes):
        return memoryview(np.zeros(nbytes, np.uint8))  # memory that is not touched

    clock, chance = Clock(), Random(5)
    medium = Disk.load(DATA / "disk.toml", clock, zeros, {"nbytes": 1 << 30}, seed=3)
    busy = [medium.reserve(chance.randrange(1 << 18) << 12, 4096, write=False).busy for _ in range(5000)]
    # 8.64 ms of seek, 4.17 ms of half a turn, 0.02 ms for 4 KiB
    assert sum(busy) / len(busy) == pytest.approx(12_830_000, rel=0.03)
