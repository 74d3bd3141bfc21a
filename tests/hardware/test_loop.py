"""Commands of one instant go to the real device together; one alone goes by itself; each gets its own status."""

import errno
from types import SimpleNamespace

import pytest

from labkit.errors import NotAllowed
from labkit.hardware.clock import Clock
from labkit.hardware.device import Command
from labkit.hardware.loop import Loop
from labkit.hardware.ram import RAM

MIB = 1 << 20


class File:
    """Bytes in place of a loop device, and what was asked of it."""

    nbytes = MIB

    def __init__(self):
        self.bytes, self.calls, self.short, self.refuses = bytearray(range(256)) * 4096, [], 0, None

    def _move(self, views, pos, *, write):
        moved = 0
        for view in views:
            at = slice(pos + moved, pos + moved + view.nbytes)
            if write:
                self.bytes[at] = view
            else:
                view[:] = self.bytes[at]
            moved += view.nbytes
        return moved

    def preadv(self, views, pos):
        self.calls.append("preadv")
        return self._move(views, pos, write=False)

    def pwritev(self, views, pos):
        self.calls.append("pwritev")
        return self._move(views, pos, write=True)

    def batch(self, transfers):
        if self.refuses:
            raise self.refuses
        self.calls.append(f"batch of {len(transfers)}")
        done = [self._move(views, pos, write=write) for views, pos, write in transfers]
        return [self.short or done[0], *done[1:]]

    def flush(self):
        self.calls.append("flush")


@pytest.fixture
def world():
    clock, ram, file, ended = Clock(), RAM(memoryview(bytearray(MIB))), File(), {}
    loop = Loop(clock, ram, file)

    def ask(number, sector, nbytes=4096, *, write=False):
        ranges = ((number * 65536, nbytes),) if nbytes else ()
        loop.submit(Command(1, number, 0, write, sector, nbytes, ranges), lambda status: ended.update({number: status}))

    return SimpleNamespace(clock=clock, ram=ram, file=file, loop=loop, ask=ask, ended=ended)


def test_one_command_is_one_preadv(world):
    world.ask(1, 8)
    world.clock.run()
    assert (world.file.calls, world.ended) == (["preadv"], {1: 0})
    assert world.ram.gather(((65536, 4096),)) == bytes(range(256)) * 16


def test_commands_of_one_instant_are_one_call_and_later_ones_another(world):
    for number in (1, 2, 3):
        world.ask(number, 8 * number, write=number == 2)
    world.clock.later(50, world.ask, 4, 64)
    world.clock.run()
    assert world.file.calls == ["batch of 3", "preadv"]
    assert world.ended == {1: 0, 2: 0, 3: 0, 4: 0}
    assert world.file.bytes[8192:12288] == bytes(4096)


def test_what_the_ring_left_over_is_moved_by_itself(world):
    world.file.short = 512
    world.ask(1, 0)
    world.ask(2, 8)
    world.clock.run()
    assert (world.file.calls, world.ended) == (["batch of 2", "preadv"], {1: 0, 2: 0})


def test_an_errno_of_the_ring_is_the_commands_own(world):
    world.file.short = -errno.ENOSPC
    world.ask(1, 0)
    world.ask(2, 8)
    world.clock.run()
    assert world.ended == {1: errno.ENOSPC, 2: 0}


def test_without_a_ring_they_go_one_by_one(world):
    world.file.refuses = NotAllowed("io_uring", "this kernel", "has none", errno.ENOSYS)
    world.ask(1, 0)
    world.ask(2, 8)
    world.clock.run()
    assert (world.file.calls, world.ended) == (["preadv", "preadv"], {1: 0, 2: 0})


def test_a_flush_goes_beside_them(world):
    world.ask(1, 0)
    world.ask(2, 0, 0, write=True)
    world.ask(3, 8)
    world.clock.run()
    assert (world.file.calls, world.ended) == (["batch of 2", "flush"], {1: 0, 2: 0, 3: 0})


def test_what_a_reset_forgot_is_neither_done_nor_told(world):
    world.ask(1, 0)
    assert world.loop.reset()
    world.clock.run()
    assert (world.file.calls, world.ended) == ([], {})


def test_a_bad_sector_fails_its_own_command_alone(world):
    world.loop.health.bad.append((9, 10))
    world.ask(1, 0)
    world.ask(2, 8)
    world.clock.run()
    assert (world.file.calls, world.ended) == (["preadv"], {1: 0, 2: errno.EIO})
