"""Whoever owns memory tells those who have mapped it that it goes, and waits for those who use it."""

import pytest

from labkit.errors import SyscallError
from labkit.kernel.mm.backing.provider import Provider
from labkit.kernel.mm.frames.ledger import PinLedger
from labkit.scatter.memory_class import MemoryClass

START = 1 << 32


def provider(**how):
    return Provider("gpu0", START, 1 << 20, MemoryClass("mmio", "gpu0"), **how)


def test_rule_dmabuf_1_every_importer_is_told_once_it_is_revoked_and_may_leave_then():
    gpu, told = provider(), []
    for number in (-1, -2):
        gpu.importers[number] = lambda number=number: told.append((number, gpu.live, gpu.importers.pop(number) and 1))
    assert gpu.revoke(PinLedger()) == ()
    assert told == [(-1, False, 1), (-2, False, 1)]


def test_the_owner_learns_who_uses_it_still():
    gpu, ledger = provider(), PinLedger()
    token = ledger.pin(1, 0, "lease", ((START + 4096, 4096),))
    ledger.pin(1, 0, "page", ((4096, 4096),))
    assert gpu.revoke(ledger) == (token,)


def test_memory_that_was_promised_to_stay_is_not_revoked_and_nobody_is_told():
    gpu, told = provider(revocable=False), []
    gpu.importers[-1] = lambda: told.append(1)
    with pytest.raises(SyscallError, match=r"promised to stay, and is not revoked \(D-13\) \(-EOPNOTSUPP\)"):
        gpu.revoke(PinLedger())
    assert (told, gpu.live) == ([], True)
