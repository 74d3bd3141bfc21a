import re
from itertools import islice
from random import Random

import pytest

from labkit.lessons import devices
from labkit.lessons.devices import (
    DEEP,
    FASTER,
    FAULTS,
    LATE,
    MEDIA,
    MEDIA_VIRTIO,
    TURN,
    WORN,
    busy,
    endless,
    one_read,
    profile,
)


def broken(kind, device, at="BlockGetrq"):
    return one_read(device, size="64 KiB", faults=(f"{kind}@{at}",))


def test_a_profile_is_a_table_of_numbers_with_their_origins():
    disk = profile("disk")
    assert "7,200  published: 8.33 ms a turn" in repr(disk)
    assert "<td>7,200</td>" in disk._repr_html_()
    with pytest.raises(KeyError, match="toaster"):
        profile("toaster")


def test_a_disk_does_one_read_a_turn_if_it_reads_in_order():
    assert TURN.check(busy("disk", count=60, random=False)[1], 120) == "Yes: 120."


def test_flash_is_more_than_a_hundred_times_as_fast_as_a_disk_at_random_places():
    loads = busy("disk", count=60)[1], busy("nvme", count=400)[1]
    assert 100 < FASTER.answer(loads) < 250


def test_32_at_once_is_more_than_half_of_32_times_as_much_and_not_all_of_it():
    loads = busy(count=400)[1], busy(depth=32, count=2000)[1]
    assert 16 < DEEP.answer(loads) < 32


def test_a_worn_drive_shows_it_in_the_tail():
    writes = {"depth": 4, "count": 800, "read": 0, "size": "32 KiB"}
    loads = [busy(profile={"cache_bytes": 1 << 20, "filled": filled}, **writes)[1] for filled in (0, 1)]
    assert WORN.check(loads, "p99") == "Yes: p99."


def test_a_medium_error_has_a_name_with_nvme_and_none_with_virtio():
    assert MEDIA.check(broken("media-error", "nvme", "DeviceStart"), "ENODATA") == "Yes: ENODATA."
    assert MEDIA_VIRTIO.check(broken("media-error", "virtio", "DeviceStart"), "EIO") == "Yes: EIO."


def test_nobody_hears_of_a_lost_command_for_half_a_minute():
    assert LATE.check(broken("timeout", "nvme"), 30) == "Yes: 30."


def test_every_fault_of_the_table_comes_to_one_of_the_results_and_has_an_origin():
    for kind in FAULTS:
        for device in ("nvme", "virtio", "ahci"):
            assert devices.said(broken(kind, device)) in devices.RESULTS
            assert devices._origin(kind, device)


def test_exercises_on_turns_are_turns_a_second():
    rng = Random(3)
    for each in (devices._ask_turn(rng) for _ in range(3)):
        rpm = int(re.search(r"of ([\d,]+) turns", each.text)[1].replace(",", ""))
        assert each.answer == rpm // 60


def test_a_seed_has_one_series_of_exercises():
    one, other = ([each.text for each in islice(endless(5), 4)] for _ in range(2))
    assert one == other
    assert len(set(one)) == 4
