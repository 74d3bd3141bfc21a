"""An IO takes a part of what is registered by arithmetic: no pin is counted, and nothing is mapped."""

import pytest

from labkit.errors import InvariantError, SyscallError
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.currency.ops import Kiocb
from labkit.kernel.currency.premapped import PremappedCurrency, Registration
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.scatter.memory_class import MemoryClass
from labkit.scatter.phyr import phyrs_of
from labkit.scatter.premapped import DmaVecs

VA = 0x7F00_0000_0000
LIMITS = QueueLimits(dma_alignment=3)


class Fixed:
    """A registry of buffers that are there already."""

    def __init__(self, *buffers):
        self.buffers, self.puts = buffers, []

    def lookup(self, _iocb, addr, nbytes):
        for each in self.buffers:
            if each.addr <= addr and addr + nbytes <= each.addr + each.nbytes:
                return each
        raise SyscallError("premapped", f"addr={addr:#x}", "is not registered", 14)

    def put(self, found):
        self.puts.append((found.addr, tuple(found.users)))


def buffer(addr=VA, *, token=7):
    """Two scattered frames that the device sees as one range."""
    phyrs = phyrs_of([0x64000, 0x90000], [4096, 4096])
    return Registration(addr, phyrs, DmaVecs.of(((0xFFF00000, 8192),), "nvme"), -1, token)


@pytest.fixture
def mm():
    return Mm(Frames(Buddy(64 << 20), lambda _raw: None, lambda: 0))


def iocb_of(mm, addr=VA, nbytes=8192, **how):
    return Kiocb(1, mm, "pread64", addr, nbytes, 0, False, LIMITS, **how)


def test_rule_dmabuf_1_an_io_takes_device_addresses_and_counts_nothing(mm):
    currency = PremappedCurrency(Fixed(buffer()))
    hold = currency.pin(iocb_of(mm, VA + 512, 6144), 0)
    assert hold.payload.vecs == ((0xFFF00200, 6144),)
    assert hold.payload.cls == MemoryClass("dma", "nvme")
    assert hold.ranges == ((0x64200, 3584), (0x90000, 2560))
    assert (hold.nbytes, hold.ptes, hold.atomics, hold.struct_pages, hold.descriptor_bytes) == (6144, 0, 0, 0, 0)
    assert currency.slots(iocb_of(mm), 0) == 0


def test_an_io_is_known_to_what_it_uses_until_it_ends(mm):
    held = buffer()
    currency = PremappedCurrency(registry := Fixed(held))
    iocb = iocb_of(mm)
    hold = currency.pin(iocb, 0)
    assert held.users == {hold.token} == set(mm.ledger.held)
    assert currency.unpin(iocb, hold) == (0, 0)
    assert (held.users, mm.ledger.held, registry.puts) == (set(), {}, [(VA, ())])
    with pytest.raises(InvariantError, match="is not held"):
        currency.unpin(iocb, hold)


@pytest.mark.parametrize(("token", "policy"), [(7, "none"), (0, "lease")])
def test_memory_that_its_owner_may_take_back_is_held_as_a_lease(mm, token, policy):
    currency = PremappedCurrency(Fixed(buffer(token=token)))
    hold = currency.pin(iocb_of(mm), 0)
    assert mm.ledger.held[hold.token].policy == currency.policy == policy


def test_pieces_of_several_buffers_are_one_list(mm):
    first, second = buffer(), buffer(VA + 0x10000)
    currency = PremappedCurrency(Fixed(first, second))
    iocb = iocb_of(mm, iov=((VA, 4096), (VA + 0x10000, 4096)))
    hold = currency.pin(iocb, 0)
    assert hold.payload.vecs == ((0xFFF00000, 4096), (0xFFF00000, 4096))
    assert hold.ranges == ((0x64000, 4096), (0x64000, 4096))
    assert first.users == second.users == {hold.token}
    currency.unpin(iocb, hold)
    assert not first.users | second.users


def test_one_piece_that_is_not_registered_fails_all_and_nothing_is_held(mm):
    held = buffer()
    iocb = iocb_of(mm, iov=((VA, 4096), (VA + 0x20000, 4096)))
    with pytest.raises(SyscallError, match="is not registered"):
        PremappedCurrency(Fixed(held)).pin(iocb, 0)
    assert (held.users, mm.ledger.held) == (set(), {})


@pytest.mark.parametrize(("addr", "nbytes", "what"), [
    (VA + 2, 4096, "buf=0x7f0000000002"), (VA, 4098, "length=4098 at buf=0x7f0000000000"),
])  # fmt: skip
def test_rule_iter_5_memory_off_the_alignment_is_refused(mm, addr, nbytes, what):
    with pytest.raises(SyscallError, match=rf"{what} is not a multiple of 4 \(O_DIRECT, ITER-5\) \(-EINVAL\)"):
        PremappedCurrency(Fixed(buffer())).pin(iocb_of(mm, addr, nbytes), 0)


def test_no_hole_is_filled_by_device_addresses(mm):
    with pytest.raises(SyscallError, match=r"a hole cannot be zeroed .* \(-EOPNOTSUPP\)"):
        PremappedCurrency(Fixed(buffer())).zero(iocb_of(mm), 0, 4096, None)
