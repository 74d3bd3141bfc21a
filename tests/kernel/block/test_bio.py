from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.kernel.block.bio import Bio
from labkit.scatter.phyr import Phyr, PhyrList

LIST = PhyrList([Phyr(0x7000, 4096)])


def bio_of(ended):
    bio = Bio(Clock(), 1, 1, 16, LIST, write=False)
    bio.end_io = ended.append
    return bio


def test_a_bio_ends_once_with_its_last_reference():
    ended = []
    bio = bio_of(ended)
    bio.remaining += 2
    bio.endio()
    bio.endio()
    assert ended == []
    assert not bio.done.triggered
    bio.endio()
    assert ended == [bio]
    assert bio.done.value == 0


def test_the_first_error_stays_with_its_reason():
    bio = bio_of([])
    bio.remaining += 1
    why = SyscallError("block", "a vector", "is crooked", 22)
    bio.endio(22, why)
    bio.endio(5)
    assert (bio.error, bio.why, bio.done.value) == (22, why, 22)
