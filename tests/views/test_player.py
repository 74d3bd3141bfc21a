from labkit.views.fold import fold
from labkit.views.journey import journey
from labkit.views.player import card, player


def test_meters_run_with_the_records(small):
    meters = player(small, journey(small)).meters
    assert meters["pinned_frames"] == [0, 0, 0, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0]
    assert meters["pin_atomics"] == [0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 4, 4]
    assert meters["descriptor_bytes"] == [0, 0, 0, 32, 32, 32, 32, 48, *[304] * 9]


def test_each_record_has_its_time(small):
    assert player(small, journey(small)).t[8:12] == [700, 900, 900, 70_900]


def test_it_opens_while_bytes_are_on_their_way(small, traces):
    assert player(small, journey(small)).poster == 10.55
    big = traces.scattered(256)
    moved = [at for at, rec in enumerate(big.records) if type(rec).__name__ == "DeviceDma"]
    assert moved[3] < player(big, journey(big)).poster < moved[4]


def test_it_opens_at_the_end_of_what_moved_nothing(traces):
    assert player(traces.FAILED, journey(traces.FAILED)).poster == 2
    assert player(traces.EMPTY, journey(traces.EMPTY)).poster == 0


def test_the_inspector_names_all_four_addresses(small):
    trip = journey(small)
    assert card(trip, fold(trip, 100)[1]) == {
        "title": "phyr 1",
        "size": "4 KiB",
        "rows": [
            ("user", "0x7f00_0000_2000 + 4 KiB"),
            ("physical", "0x4000_5000 + 4 KiB"),
            ("device", "0xffe0_2000 + 4 KiB"),
            ("blocks", "24 + 8"),
            ("request", "1, tag 0, channel 5"),
        ],
    }
