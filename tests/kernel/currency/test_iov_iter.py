import pytest

from labkit.kernel.currency.iov_iter import IovIter
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mmap, do_mprotect
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.space.mm_struct import Mm

VA = 0x7F00_0000_0000
KERNEL = 0x80_0000
PFNS = (7, 33, 34)


class World:
    """Three pages in frames 7, 33 and 34, and bytes by physical address."""

    def __init__(self):
        self.bytes = bytearray(16 << 20)
        self.mm = Mm(Frames(Buddy(64 << 20), lambda _raw: None, lambda: 0, self.wipe, self.copy))
        self.mm.frames.buddy.zones[0].pcp[0] = list(reversed(PFNS))
        do_mmap(self.mm, 3 * 4096, "rw-")
        handle_mm_fault(self.mm, self.mm.space.vmas[0], 0, 3)
        for index, pfn in enumerate(PFNS):
            self.bytes[pfn * 4096 : pfn * 4096 + 4096] = bytes([65 + index]) * 4096

    def wipe(self, addr, nbytes):
        self.bytes[addr : addr + nbytes] = bytes(nbytes)

    def copy(self, to, source, nbytes):
        self.bytes[to : to + nbytes] = self.bytes[source : source + nbytes]

    def user(self):
        return b"".join(bytes(self.bytes[pfn * 4096 : pfn * 4096 + 4096]) for pfn in PFNS)


@pytest.fixture
def world():
    return World()


def test_the_users_bytes_come_piece_by_piece(world):
    user = IovIter(world.mm, [(VA + 4090, 10), (VA, 4), (VA + 8192, 2)])
    assert user.copy_from_iter(((KERNEL, 7), (KERNEL + 4096, 9))) == 16
    assert bytes(world.bytes[KERNEL : KERNEL + 7]) == b"AAAAAAB"
    assert bytes(world.bytes[KERNEL + 4096 : KERNEL + 4105]) == b"BBBAAAACC"
    assert user.done == user.total == 16


def test_the_user_gets_bytes_where_the_last_copy_ended(world):
    world.bytes[KERNEL : KERNEL + 6] = b"kernel"
    user = IovIter(world.mm, [(VA + 4094, 4), (VA, 2)])
    assert (user.copy_to_iter(((KERNEL, 3),)), user.copy_to_iter(((KERNEL + 3, 3),))) == (3, 3)
    assert world.user() == b"el" + b"A" * 4092 + b"ke" + b"rn" + b"B" * 4094 + b"C" * 4096


@pytest.mark.parametrize(("start", "nbytes", "came"), [(0, 12288, 8192), (4096, 8192, 4096), (8192, 512, 0)])
def test_rule_dio15_zeros_end_where_the_user_may_not_write(world, start, nbytes, came):
    do_mprotect(world.mm, VA + 8192, 4096, "r--")
    before = world.user()
    assert IovIter(world.mm, [(VA + start, nbytes)]).zero(nbytes) == came
    assert world.user() == before[:start] + bytes(came) + before[start + came :]


def test_what_is_faulted_in_is_not_taken_yet(world):
    user = IovIter(world.mm, [(VA, 8192), (0x6000, 4096)])
    assert (user.fault_in(12288, write=False), user.done) == (8192, 0)
    assert user.copy_from_iter(((KERNEL, 12288),)) == 8192
