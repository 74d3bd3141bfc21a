"""One suite for every medium, with the profile that it is delivered with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import BadInput
from labkit.hardware.clock import Clock
from labkit.hardware.media.delay import Delay
from labkit.hardware.media.disk import Disk
from labkit.hardware.media.flash import Flash
from labkit.hardware.media.host import Host
from labkit.hardware.media.null import Null
from labkit.hardware.media.ops import Medium
from labkit.hardware.media.pmem import Pmem
from labkit.hardware.media.xpoint import Xpoint
from labkit.machine import DATA

MEDIA = {"nvme": Flash, "ahci": Flash, "optane": Xpoint, "disk": Disk, "delay": Delay, "null": Null, "pmem": Pmem,
         "virtio": Host}  # fmt: skip
NBYTES = 32 << 20
SHARED = memoryview(bytearray(NBYTES))
EVERY = pytest.mark.parametrize("name", MEDIA)


def load(name, media=SHARED, **overrides):
    clock = Clock()
    medium: Medium = MEDIA[name].load(DATA / f"{name}.toml", clock, lambda _: media, overrides, 7)
    return clock, medium


@EVERY
def test_it_is_as_large_as_its_memory_and_keeps_nothing_back_but_flash(name):
    _, medium = load(name)
    assert (medium.nbytes, medium.media.nbytes) == (NBYTES, NBYTES)
    assert medium.volatile is (name in {"nvme", "ahci"})
    assert medium.flush() == 0


@EVERY
@given(
    asked=st.lists(
        st.tuples(st.integers(0, 4095), st.sampled_from([512, 4096, 65536, 16 << 20]), st.booleans(), st.booleans(),
                  st.integers(0, 100_000)), max_size=12)
)  # fmt: skip
def test_a_turn_lies_in_the_future_and_a_flush_ends_after_all_writes(name, asked):
    clock, medium = load(name)
    last = 0
    for page, nbytes, write, fua, gap in asked:
        clock.later(gap, lambda: None)
        clock.run()
        wait, busy, unit = medium.reserve(page << 12, nbytes, write=write, fua=fua)
        assert all(type(number) is int and number >= 0 for number in (wait, busy, unit))
        last = max(last, clock.now + wait)
    assert clock.now + medium.flush() >= (0 if name == "null" else last)


@EVERY
def test_the_same_seed_gives_the_same_turns(name):
    rows = [[load(name)[1].reserve(i << 12, 65536, write=i % 2 == 0) for i in range(8)] for _ in range(2)]
    assert rows[0] == rows[1]


@EVERY
def test_after_a_cut_in_the_instant_of_a_write_each_sector_is_old_or_new(name):
    _, medium = load(name, memoryview(bytearray(16384)))
    medium.journal()
    medium.reserve(0, 8192, write=True)
    medium.keep(0, 8192)
    medium.media[:8192] = b"n" * 8192
    lost = medium.power_cut(5)
    old = sum(nbytes for _, nbytes in lost)
    assert 0 < old < 8192
    assert bytes(medium.media[:8192]).count(0) == old
    assert all(bytes(medium.media[pos : pos + nbytes]) == bytes(nbytes) for pos, nbytes in lost)


@EVERY
def test_a_number_by_an_unknown_name_is_refused_with_those_that_are_known(name):
    with pytest.raises(BadInput, match=rf"profile: 'wings' is not one of .*nbytes.* in {name}\.toml"):
        load(name, wings=2)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("nvme", "dies", 0),
        ("nvme", "read_ns", -1),
        ("nvme", "spare", 0),
        ("nvme", "filled", 1.5),
        ("nvme", "program_bytes", 0),
        ("optane", "units", 0),
        ("disk", "rpm", 0),
        ("disk", "outer_bytes_per_ns", 0),
        ("delay", "servers", 0),
        ("delay", "read_avg_ns", 200_000),
        ("null", "irqmode", 3),
        ("pmem", "read_bytes_per_ns", 0.0),
        ("virtio", "bytes_per_ns", float("inf")),
    ],
)
def test_nonsense_is_refused_in_one_sentence(name, field, value):
    with pytest.raises(BadInput) as caught:
        load(name, **{field: value})
    assert str(caught.value).startswith("profile: ")
    assert "\n" not in str(caught.value)
