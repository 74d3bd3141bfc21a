from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from labkit.hardware.media.stored import Stored

SECTOR = 512


class Cache(Stored):
    """A medium that never programs anything by itself."""

    def _lasts(self):
        return 1 << 60


def medium(cls=Cache, sectors=8):
    return cls(SimpleNamespace(now=0), memoryview(bytearray(b"o" * sectors * SECTOR)), None)


def write(one, sector, letter, sectors=1, **how):
    one.keep(sector * SECTOR, sectors * SECTOR, **how)
    one.media[sector * SECTOR : (sector + sectors) * SECTOR] = letter * sectors * SECTOR


def letters(one):
    whole = bytes(one.media)
    assert all(len(set(whole[at : at + SECTOR])) == 1 for at in range(0, len(whole), SECTOR))
    return whole[::SECTOR].decode()


def test_without_a_journal_nothing_is_remembered_and_nothing_lost():
    one = medium()
    write(one, 0, b"n", 8)
    assert one.power_cut(1) == []
    assert letters(one) == "nnnnnnnn"


def test_a_write_is_torn_between_its_sectors_and_what_is_lost_is_told():
    seen = set()
    for seed in range(20):
        one = medium()
        one.journal()
        write(one, 0, b"n", 8)
        lost = one.power_cut(seed)
        gone = {at // SECTOR for pos, nbytes in lost for at in range(pos, pos + nbytes, SECTOR)}
        assert letters(one) == "".join("o" if sector in gone else "n" for sector in range(8))
        seen.add(letters(one))
    assert len(seen) > 10


def test_the_seed_alone_decides():
    one, other = medium(), medium()
    for each in (one, other):
        each.journal()
        write(each, 0, b"n", 8)
    assert one.power_cut(7) == other.power_cut(7)
    assert letters(one) == letters(other)


def test_the_journal_is_empty_after_a_cut():
    one = medium()
    one.journal()
    write(one, 0, b"n", 8)
    one.power_cut(1)
    left = letters(one)
    assert one.power_cut(2) == []
    assert letters(one) == left


def test_where_writes_are_durable_only_those_of_this_instant_can_be_lost():
    one = medium(Stored)
    one.journal()
    write(one, 0, b"n", 8)
    assert one.power_cut(1)
    write(one, 0, b"m", 8)
    one.env.now = 1
    assert one.power_cut(1) == []
    assert letters(one) == "mmmmmmmm"


def test_an_older_write_that_is_lost_does_not_take_a_durable_one_with_it():
    for seed in range(20):
        one = medium()
        one.journal()
        write(one, 0, b"a", 8)
        write(one, 4, b"b", 4, fua=True)
        one.env.now = 1
        one.power_cut(seed)
        assert letters(one)[4:] == "bbbb"


@given(
    writes=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 8), st.booleans()), max_size=10),
    seed=st.integers(0, 99),
)
def test_each_sector_is_left_as_it_was_after_some_write_since_the_last_durable_one(writes, seed):
    one = medium()
    one.journal()
    possible = ["o"] * 8
    for now, (first, sectors, fua) in enumerate(writes):
        one.env.now, letter, count = now, chr(ord("a") + now), min(sectors, 8 - first)
        write(one, first, letter.encode(), count, fua=fua)
        for sector in range(first, first + count):
            possible[sector] = letter if fua else possible[sector] + letter
    one.env.now = len(writes)
    one.power_cut(seed)
    assert all(letter in of for letter, of in zip(letters(one), possible, strict=True))


def test_what_has_become_durable_is_forgotten():
    one = medium(Stored)
    one.journal()
    for now in range(100):
        one.env.now = now
        write(one, 0, b"n")
    assert len(one._undo) == 1
