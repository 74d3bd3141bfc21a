"""The IO of a capture, done again: every byte is compared, and a wrong one is found."""

import pytest

from labkit.kernel.mm.space.pte import ADDR_MASK
from labkit.machine import Machine
from labkit.witness.again import Again, Filled
from labkit.witness.capture import Capture
from labkit.witness.like import like, scenario_of
from labkit.witness.place import placed_of

PAGE = bytes(4096)


def test_the_last_piece_of_an_IO_wins():
    page = Filled(0, PAGE)
    page.put(0, b"first", 1)
    page.put(0, b"second", 1)
    assert page.same(b"second" + PAGE[6:])
    assert not page.same(b"first" + PAGE[5:])


def test_of_two_IOs_at_once_nobody_knows_who_was_last():
    page = Filled(0, PAGE)
    page.put(0, b"aaaa", 1)
    page.put(2, b"bbbb", 2)
    assert page.contested == {2, 3}
    assert page.same(b"aabbbb" + PAGE[6:])
    assert page.same(b"aaaabb" + PAGE[6:])
    assert not page.same(b"aabbbc" + PAGE[6:])


def run(values, spoil):
    """Do the IO of a capture, with `spoil(machine, results)` before the bytes are compared; return the verdict."""
    capture = Capture.of(values)
    placed = placed_of(capture)

    class Spoiled(Again):
        def _same(self, task, volume, path):
            spoil(machine, capture)
            return super()._same(task, volume, path)

    again = Spoiled(capture, placed)
    with Machine(scenario_of(capture, placed, {}), placed=placed) as machine:
        return machine.run(again)["verified"]


@pytest.mark.parametrize("name", ["05-1m", "20-iov", "46-uring", "55-ext4", "62-xfs4096"])
def test_one_wrong_byte_in_memory_is_found(captured, name):
    def spoil(machine, capture):
        (mm,), (addr, _) = machine.mms, capture.io[-1].iov[-1]
        phys = (mm.walk(addr)[-1].entry & ADDR_MASK) + addr % 4096
        machine.ram.scatter(((phys, 1),), bytes((machine.ram.gather(((phys, 1),))[0] ^ 1,)))

    assert run(captured(name), lambda *_: None)
    assert not run(captured(name), spoil)


def test_reads_begin_with_other_bytes_in_memory_than_on_the_medium(captured):
    done = like(Capture.of(captured("01-one-page")))
    assert done.machine.ram.gather(((0x279F53000, 4096),)) == done.machine.volume.peek("/dev/loop0", 0, 4096) != PAGE


def test_a_buffer_that_is_registered_is_let_go_of(captured):
    for system in ("page", "phyr", "premapped"):
        done = like(Capture.of(captured("42-uring")), system=system)
        assert not done.machine.ledger.held


def test_a_file_is_as_long_as_it_was(captured):
    done = like(Capture.of(captured("53-ext4")))
    assert done.machine.volume.size("/mnt/file") == 12779520


def test_extents_stay_apart_that_touch(captured):
    done = like(Capture.of(captured("extents-that-touch")))
    rows = [row[:3] for row in done.machine.volume.inode("/mnt/file").forks.data.rows()]
    assert rows == [[0, 65536, 4096], [4096, 69632, 4096]]


def test_memory_that_one_entry_writes_from_while_another_reads_into_it_is_nobodys(captured):
    values = captured("46-uring-batch-32")
    read, write = values["io"][0], values["io"][1]
    write |= {"api": "io_uring_write", "op": "w", "iov": read["iov"]}
    values |= {"io": [read, write], "batch": 2, "events": None, "bios": None}
    done = like(Capture.of(values), check=True)
    assert (done.results, done.verified, done.report["violations"]) == ([4096, 4096], True, [])


def test_blocks_that_two_entries_write_at_once_are_nobodys(captured):
    values = captured("46-uring-batch-32")
    both = [entry | {"api": "io_uring_write", "op": "w", "pos": 0} for entry in values["io"][:2]]
    values |= {"io": both, "batch": 2, "events": None, "bios": None}
    assert like(Capture.of(values)).verified


def test_memory_that_two_entries_read_into_is_nobodys_where_another_writes_what_one_of_them_reads(captured):
    values = captured("46-uring-batch-32")
    one, two, write = values["io"][:3]
    two |= {"iov": one["iov"]}
    write |= {"api": "io_uring_write", "op": "w", "pos": two["pos"]}
    values |= {"io": [one, two, write], "batch": 3, "events": None, "bios": None}
    assert like(Capture.of(values)).verified


def test_a_file_is_as_long_as_the_device_tells_where_no_event_does(captured):
    values = captured("53-ext4")
    values["device"] |= {"file_bytes": 12779520 + 4096}
    assert like(Capture.of(values | {"events": None})).machine.volume.size("/mnt/file") == 12779520 + 4096
