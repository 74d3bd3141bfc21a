from hypothesis import given
from hypothesis import strategies as st

from labkit.hardware.ram import RAM
from labkit.hardware.xen import WINDOW, MachineBus, P2m

MIB = 1 << 20
RANGES = ((0, 640 << 10), (MIB, 15 * MIB))


def test_machine_frames_are_those_of_the_guest_in_another_order():
    p2m = P2m(ranges=RANGES, seed=3)
    machine = [p2m.machine(pfn) for pfn in range(16 * MIB >> 12)]
    assert sorted(machine) == list(range(4096))
    assert [p2m.guest(mfn) for mfn in machine] == list(range(4096))


def test_runs_are_of_two_to_sixty_four_frames_and_few_are_at_home():
    p2m = P2m(ranges=((0, 16 * MIB),), seed=3)
    sizes = [size >> 12 for _, size in p2m.ranges(0, 4 * MIB)]
    assert sum(sizes) == 1024
    assert 16 <= len(sizes) <= 512
    assert sum(p2m.machine(pfn) == pfn for pfn in range(1024)) < 128


def test_what_lies_in_a_hole_or_is_no_whole_window_is_its_own():
    p2m = P2m(ranges=RANGES, seed=3)
    assert [p2m.machine(pfn) for pfn in (0, 1023, 1 << 20)] == [0, 1023, 1 << 20]


def test_the_seed_decides():
    first, again, other = (P2m(ranges=((0, 16 * MIB),), seed=seed).ranges(0, MIB) for seed in (1, 1, 2))
    assert first == again != other


def test_a_grant_comes_before_all_and_may_come_later():
    grants = {}
    p2m = P2m(grants, ((0, 16 * MIB),))
    grants[5] = 0x99999
    assert p2m.ranges(0x5010, 16) == [(0x99999010, 16)]


@given(st.integers(0, 1000), st.integers(1, 24))
def test_an_exchange_makes_one_run_and_loses_no_frame(first, pages):
    p2m = P2m(ranges=((0, 16 * MIB),), seed=3)
    p2m.exchange(first << 12, pages << 12)
    assert len(p2m.ranges(first << 12, pages << 12)) == 1
    machine = [p2m.machine(pfn) for pfn in range(2 * WINDOW)]
    assert sorted(machine) == list(range(2 * WINDOW))
    assert [p2m.guest(mfn) for mfn in machine] == list(range(2 * WINDOW))


def test_a_bus_of_machine_addresses_finds_the_bytes_of_the_guest():
    ram, p2m = RAM(memoryview(bytearray(16 * MIB))), P2m(ranges=((0, 16 * MIB),), seed=3)
    bus = MachineBus(ram, p2m)
    ram.view(0x5000, 12288)[:] = b"\5" * 4096 + b"\6" * 4096 + b"\7" * 4096
    parts = p2m.ranges(0x5E00, 5120)
    assert (
        b"".join(bytes(view) for part in parts for view in bus.views(*part)) == b"\5" * 512 + b"\6" * 4096 + b"\7" * 512
    )
