from dataclasses import replace

import pytest

from labkit.hardware.clock import Clock
from labkit.hardware.media.flash import Flash, FlashProfile

# Four dies; 128 KiB are programmed in 600 us, so a page drains in 18750 ns
FOUR = FlashProfile(
    nbytes=1 << 20, channels=2, dies=2, read_ns=60_000, write_ns=12_000, program_ns=600_000, program_bytes=32 << 10,
    erase_ns=5_000_000, block_bytes=16 << 10, cache_bytes=1 << 20, spare=0.07, filled=0.0,
)  # fmt: skip
PAGE = 4096


def flash(**other):
    clock = Clock()
    return clock, Flash(clock, memoryview(bytearray(FOUR.nbytes)), replace(FOUR, **other))


def pass_time(clock, ns):
    clock.later(ns, lambda: None)
    clock.run()


def test_pages_go_round_the_dies():
    _, medium = flash()
    assert medium.reserve(0, 512, write=False) == (0, 60_000, 0)
    assert medium.reserve(4 * PAGE + 3584, 512, write=False) == (60_000, 60_000, 0)
    assert medium.reserve(5 * PAGE, PAGE, write=False) == (0, 60_000, 1)


def test_what_crosses_a_page_by_a_sector_needs_two_dies():
    _, medium = flash()
    assert medium.reserve(2 * PAGE + 512, PAGE, write=False) == (0, 60_000, 2)
    assert medium.reserve(3 * PAGE, PAGE, write=False) == (60_000, 60_000, 3)


def test_a_write_is_over_in_the_cache():
    _, medium = flash()
    assert medium.reserve(0, PAGE, write=True) == (0, 12_000, 0)
    assert medium.reserve(0, 8 * PAGE, write=True) == (0, 36_000, 0)


def test_a_cache_that_is_full_makes_writes_wait_until_it_has_drained_a_page():
    clock, medium = flash(cache_bytes=2 * PAGE)
    assert [medium.reserve(i * PAGE, PAGE, write=True).wait for i in range(4)] == [0, 0, 18_750, 37_500]
    assert medium.reserve(2 * PAGE, PAGE, write=False).wait == 12_000
    pass_time(clock, 4 * 18_750)
    assert medium.reserve(0, PAGE, write=True).wait == 0


def test_a_write_of_more_than_the_cache_waits_for_the_rest_of_itself():
    _, medium = flash(cache_bytes=2 * PAGE)
    assert medium.reserve(0, 8 * PAGE, write=True) == (6 * 18_750, 24_000, 0)


def test_a_flush_takes_until_the_last_page_is_programmed():
    clock, medium = flash()
    assert medium.flush() == 0
    medium.reserve(0, 2 * PAGE, write=True)
    assert medium.flush() == 2 * 18_750 + 600_000
    pass_time(clock, 637_499)
    assert medium.flush() == 1
    pass_time(clock, 1)
    assert medium.flush() == 0


def test_a_flush_waits_for_the_dies_as_well():
    _, medium = flash()
    medium.reserve(0, PAGE, write=False)
    assert medium.flush() == 60_000


@pytest.mark.parametrize(("pages", "programs"), [(1, 1), (32, 1), (33, 2)])
def test_a_write_with_fua_is_over_when_it_is_programmed(pages, programs):
    _, plain = flash()
    _, medium = flash()
    wait, busy, unit = plain.reserve(0, pages * PAGE, write=True)
    assert medium.reserve(0, pages * PAGE, write=True, fua=True) == (wait, busy + programs * 600_000, unit)


def test_without_a_cache_every_write_is_programmed_before_it_is_over():
    _, medium = flash(cache_bytes=0)
    assert not medium.volatile
    assert medium.reserve(0, PAGE, write=True) == (0, 612_000, 0)
    assert medium.reserve(PAGE, PAGE, write=True) == (18_750, 612_000, 1)


def test_on_a_full_drive_a_write_makes_an_erase_due_and_whoever_needs_its_die_waits():
    # 256 pages of 273: the pool is at its mark of 8; a block of 4 pages has 4 * (512 - 273) // 273 = 3 valid ones
    _, medium = flash(channels=1, dies=1, filled=1.0)
    assert medium.reserve(0, PAGE, write=True) == (5_000_000, 12_000, 0)
    assert medium.reserve(0, PAGE, write=False) == (5_012_000, 60_000, 0)
    # 75000 ns to program a page with one die; 5 ms for the erase, 180 us to read three pages, 225 us to program them
    assert medium.flush() == 75_000 + 5_000_000 + 180_000 + 225_000 + 600_000


def test_the_seed_chooses_the_dies_that_are_erased():
    def waits(seed):
        medium = Flash(Clock(), memoryview(bytearray(FOUR.nbytes)), replace(FOUR, filled=1.0), seed)
        return [medium.reserve(i * PAGE, PAGE, write=True).wait for i in range(20)]

    assert waits(1) == waits(1)
    assert waits(1) != waits(2)


def test_a_full_drive_sustains_less_than_an_empty_one():
    def seconds(filled):
        clock, medium = flash(filled=filled, cache_bytes=4 * PAGE, spare=0.28)
        for i in range(100):
            turn = medium.reserve(i % 256 * PAGE, PAGE, write=True)
            pass_time(clock, turn.wait + turn.busy)
        return clock.now

    assert seconds(1.0) > 5 * seconds(0.0)


def test_what_is_in_the_cache_is_lost_with_the_power_until_it_is_programmed():
    for late, lost in ((0, True), (618_750, True), (618_751, False)):
        clock, medium = flash()
        medium.journal()
        medium.reserve(0, PAGE, write=True)
        medium.keep(0, PAGE)
        medium.media[:PAGE] = b"n" * PAGE
        pass_time(clock, late)
        assert bool(medium.power_cut(1)) is lost


def test_what_was_written_with_fua_is_not_lost():
    clock, medium = flash()
    medium.journal()
    medium.reserve(0, PAGE, write=True, fua=True)
    medium.keep(0, PAGE, fua=True)
    pass_time(clock, 1)
    assert medium.power_cut(1) == []
