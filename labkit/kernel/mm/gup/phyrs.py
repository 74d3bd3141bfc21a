"""User addresses become physical ranges, and ranges are held and let go of as wholes: get_user_phyrs (proposed).

Matthew Wilcox, 10 Jan 2022 and 27 Jan 2024 (PHYR-12, PHYR-16, PHYR-17, PHYR-28). What becomes of struct pages in
pin_user_pages is arithmetic on addresses here.
"""

import errno
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.errors import SyscallError
from labkit.kernel.mm.backing.provider import provider_of
from labkit.kernel.mm.fault.anon import ANON_OPS
from labkit.kernel.mm.gup.follow import (
    FOLL_LONGTERM,
    FOLL_WRITE,
    check_rights,
    check_vma_flags,
    faultin,
    follow_error,
    gup_range,
    is_valid_gup_args,
    taken_leaves,
)
from labkit.kernel.mm.gup.longterm import leave_movable
from labkit.kernel.mm.pin.dirty import mark_dirty
from labkit.kernel.mm.pin.ops import Cost, PinPolicy
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK, PAGE_PRESENT, PAGE_RW, PAGE_USER
from labkit.kernel.mm.space.vma import VM_IO, VM_MIXEDMAP, VM_PFNMAP, VMA
from labkit.scatter.memory_class import RAM, MemoryClass
from labkit.scatter.phyr import Phyr, PhyrList, Phyrs, phyrs_of
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PhysAddr

_PAGE_LOW = PAGE_SIZE - 1
_FEW_BYTES = 64 * PAGE_SIZE
"""Up to here a plain loop is not slower than columns, however the pages lie."""
_SHARED, _OWN = PAGE_PRESENT | PAGE_USER, PAGE_PRESENT | PAGE_USER | PAGE_RW
"""What an entry must have to be taken without a question; what may be written is nobody else's (MM-18)."""
_NOT_PLAIN = VM_IO | VM_PFNMAP | VM_MIXEDMAP
_PLAIN = frozenset({"anon", "file", "memfd", "shmem", "hugetlb"})
"""Memory that is RAM and has a page behind every entry."""


class UserPhyrs(NamedTuple):
    """What get_user_phyrs found: `nbytes` bytes in `phyrs`.

    `ptes`: entries read, a leaf being one; `faults`: folios, or pages, that were missed and came.
    """

    phyrs: Phyrs
    nbytes: int
    ptes: int
    faults: int = 0


class _Columns(NamedTuple):
    """Runs of one class: physical addresses, bytes, entries read, faults taken."""

    addrs: NDArray[np.int64]
    lens: NDArray[np.int64]
    cls: MemoryClass
    ptes: int
    faults: int


def get_user_phyrs(
    mm: Mm, addr: int, nbytes: int, *, write: bool, max_entries: int | None = None, flags: int = 0,
    mms: Sequence[Mm] = (),
) -> UserPhyrs:  # fmt: skip
    """Translate `nbytes` of user memory from `addr` on into the fewest physical ranges (PHYR-12, invariant 7).

    `write`: the IO will write to this memory, as a read from a file does. Nothing is held yet: pin_phyrs does that.
    With `max_entries` (PHYR-10, PHYR-11) the ranges may end early, with a whole range, and a page that cannot be had
    behind the first ends them too; without, all is found or nothing (D-4). For FOLL_LONGTERM `leave_movable` comes
    before; `mms` are all address spaces that may map the memory (MM-21). Raises SyscallError in the order of
    check_vma_flags, whose first test a registered provider passes: EINVAL (less than a byte or a range, too), EFAULT
    (FOLL_NOFAULT too, as for pages, MM-11: both fail alike), ENOMEM, EAGAIN (FOLL_NOWAIT), ENODEV (revoked), EEXIST.
    """
    flags |= FOLL_WRITE if write else 0
    found = _find(mm, addr, nbytes, flags, max_entries)
    if flags & FOLL_LONGTERM and leave_movable(mm, found.phyrs.vecs, mms):
        return _find(mm, addr, nbytes, flags, max_entries)
    return found


def _find(mm: Mm, addr: int, nbytes: int, flags: int, most: int | None) -> UserPhyrs:
    """Do what get_user_phyrs does, where nothing moves."""
    short = 0 < nbytes <= _FEW_BYTES and most is None and (not flags & ~FOLL_WRITE or is_valid_gup_args(flags))
    if short and (few := _few_pages(mm, addr, nbytes, flags)) is not None:
        return few
    end = gup_range(addr, nbytes, flags)
    if most is not None:
        if most < 1:
            raise SyscallError("gup", f"max_entries={most}", "is less than one range", errno.EINVAL)
        return _some(mm, addr, end, flags, most)
    parts = []
    for part in _walk(mm, addr, end, flags):
        if isinstance(part, SyscallError):
            raise part
        parts.append(part)
    return _found(parts)


def pin_phyrs(
    mm: Mm, phyrs: Phyrs, policy: PinPolicy, io: int | None = None, *, addr: int = 0, ptes: int = 0
) -> tuple[int, Cost]:
    """Hold `phyrs` under `policy`; return the token that lets go of them, and what it cost.

    `io`: the IO that they are held for, or 0 for a registration: the caller tells the trace of pin and unpin. Without
    one they are told here, with `addr` (user) and `ptes` read. Raises SyscallError EINVAL for a pin on nothing, EFAULT
    where the policy cannot count such memory, InvariantError EINVAL as PinLedger.check; nothing is held then.
    """
    if not len(phyrs):
        raise SyscallError("gup", "a pin on nothing", "has no range that it could hold", errno.EINVAL)
    mm.ledger.check(policy.name, phyrs.vecs)
    cost = policy.pin(mm, phyrs)
    mm.has_pinned = True
    token = mm.ledger.pin(io or 0, mm.frames.now(), policy.name, phyrs.vecs, mm.task, phyrs, told=io is None)
    if io is None:
        _tell(mm, token, cost, addr, ptes)
    return token, cost


def put_user_phyrs(mm: Mm, token: int, *, dirty: bool = False) -> Cost:
    """Let go of all that `token` holds (PHYR-17); `dirty`: the IO wrote to it, and its folios learn that (P10).

    What was unmapped meanwhile, and nobody holds now, is freed. Raises InvariantError EINVAL for a double unpin.
    """
    told = token in mm.ledger.held and mm.ledger.use(token).told
    pin, phyrs = mm.ledger.take(token)
    try:
        cost = POLICIES[pin.policy].unpin(mm, phyrs)
        if dirty:
            mark_dirty(mm, pin.ranges, pin.io)
        if told:
            mm.emit("GupUnpin", token, cost.atomics, cost.struct_pages, io=pin.io)
    finally:
        mm.frames.release_orphans()
        mm.ledger.released(pin)
    return cost


def split_token(mm: Mm, token: int, at: int, io: int = 0) -> tuple[int, int]:
    """Make two of `token`: bytes before `at`, and from `at` on; return both (the one special operation of PHYR-17).

    Both are held since now, for the same task and IO, and let go of by the same event; the trace is told. A page, or a
    folio, that both have a part of is counted for both. `io` is who asks: an IO alone splits what it holds. Raises
    SyscallError EBUSY for another's, InvariantError EINVAL for a token that is not held, and where a part is empty.
    """
    pin, phyrs = mm.ledger.peek(token, at)
    if pin.io not in {0, io}:
        rule = f"is held by IO {pin.io}, which is on its way and lets go of it as a whole (PHYR-17)"
        raise SyscallError("gup", f"pin token {token}", rule, errno.EBUSY)
    policy, use = POLICIES[pin.policy], mm.ledger.use(token)
    halves = phyrs.slice(0, at), phyrs.slice(at, phyrs.nbytes - at)
    costs = [policy.pin(mm, half) for half in halves]
    mm.ledger.take(token)
    freed, told = policy.unpin(mm, phyrs), use.told or not pin.io
    mm.emit("GupUnpin", token, freed.atomics, freed.struct_pages, io=pin.io)
    parts = []
    for half, cost in zip(halves, costs, strict=True):
        held = pin.io, mm.frames.now(), pin.policy, half.vecs, use.task, half
        parts.append(mm.ledger.pin(*held, per_bio=use.per_bio, told=told))
        _tell(mm, parts[-1], cost)
    mm.ledger.inherit(token, *parts)
    return parts[0], parts[1]


def _tell(mm: Mm, token: int, cost: Cost, addr: int = 0, ptes: int = 0) -> None:
    """Tell the trace of the pin `token`."""
    pin, (atomics, lines, structs, kept), task = mm.ledger.held[token], cost, mm.ledger.task_of(token)
    mm.emit("GupPin", token, pin.policy, addr, pin.ranges, ptes, atomics, structs, kept, lines, task, io=pin.io)


def _few_pages(mm: Mm, addr: int, nbytes: int, flags: int) -> UserPhyrs | None:
    """Translate a few pages of one mapping that are all there for the asking; None where it takes more."""
    vma = mm.space.find_vma(addr)
    if vma is None or addr + nbytes > vma.end:
        return None
    if vma.ops is ANON_OPS and not flags & ~FOLL_WRITE:
        if ("w" if flags else "r") not in vma.prot:
            return None
    elif not _plain(vma, addr, flags):
        return None
    return _tight_loop(vma, addr - vma.start, nbytes, _OWN if vma.cow or flags & FOLL_WRITE else _SHARED)


def _tight_loop(vma: VMA, at: int, nbytes: int, need: int) -> UserPhyrs | None:
    """Translate from byte `at` of `vma` on, entry by entry; None for an entry that lacks a bit of `need`."""
    offset, first, last = at & _PAGE_LOW, at >> PAGE_SHIFT, (at + nbytes + _PAGE_LOW) >> PAGE_SHIFT
    words = vma.table.ptes[first:last]
    if last - first == 1 and words and words[0] & need == need:
        return UserPhyrs(PhyrList((Phyr(PhysAddr((words[0] & ADDR_MASK) + offset), nbytes),)), nbytes, 1)
    start = end = -1
    ranges: list[Phyr] = []
    for word in words:
        if word & need != need:
            return None
        page = word & ADDR_MASK
        if page != end:
            if end >= 0:
                ranges.append(Phyr(PhysAddr(start), end - start))
            start = page if end >= 0 else page + offset
        end = page + PAGE_SIZE
    if end < 0:  # leaves alone
        return None
    ranges.append(Phyr(PhysAddr(start), end - start - ((last - first) << PAGE_SHIFT) + offset + nbytes))
    return UserPhyrs(PhyrList(ranges), nbytes, last - first)


def _plain(vma: VMA, addr: int, flags: int) -> bool:
    """Return whether every entry of `vma` that is present and writable may be taken: nothing else is to be asked."""
    kind = vma.ops.kind
    if kind not in _PLAIN or vma.flags & _NOT_PLAIN or provider_of(vma) is not None:
        return False
    return check_rights(vma, addr, flags) is None


def _some(mm: Mm, addr: int, end: int, flags: int, most: int) -> UserPhyrs:
    """Find up to `most` ranges: windows double until one range more is seen, so that little beyond is faulted in."""
    parts, at, window = list[_Columns](), addr, most
    while at < end:
        stop = min(end, (at & ~_PAGE_LOW) + window * PAGE_SIZE)
        for part in _walk(mm, at, stop, flags):
            if isinstance(part, _Columns):
                parts.append(part)
            elif parts:
                end = stop  # what came before the page that cannot be had
            else:
                raise part
        found, at, window = _found(parts), stop, window * 2
        if len(found.phyrs) > most:
            covered = sum(nbytes for _, nbytes in found.phyrs.vecs[:most])
            return found._replace(phyrs=found.phyrs.slice(0, covered), nbytes=covered)
    return _found(parts)


def _walk(mm: Mm, addr: int, end: int, flags: int) -> Iterator[_Columns | SyscallError]:
    """Yield the runs of [addr, end), mapping by mapping, faulting pages in; at last why a page cannot be had (MM-5)."""
    while addr < end:
        vma = mm.space.find_vma(addr)
        error = _refusal(vma, addr, flags)
        if vma is None or error is not None:
            yield error or SyscallError("gup", f"addr={addr:#x}", "is not mapped (MM-4)", errno.EFAULT)
            return
        first, last = vma.page(addr), vma.page(min(end, vma.end) - 1) + 1
        stop, faults, error = faultin(mm, vma, first, last, flags)
        if provider_of(vma) is None:
            stop, why = follow_error(mm, vma, first, stop, flags)
            error = why or error
        if stop > first:
            reach = min(end, vma.start + (stop << PAGE_SHIFT))
            yield _columns(vma, first, stop, addr & _PAGE_LOW, reach - addr, faults)
        if error is not None:
            yield error
            return
        addr = min(end, vma.end)


def _refusal(vma: VMA | None, addr: int, flags: int) -> SyscallError | None:
    """Return why nothing of `vma` may be taken, or None; a registered owner answers for memory without pages (D-13)."""
    owner = provider_of(vma) if vma is not None else None
    if vma is None or owner is None:
        return check_vma_flags(vma, addr, flags)
    if not owner.live:
        rule = f"lies in {vma.name}, whose owner has revoked it (D-13)"
        return SyscallError("gup", f"addr={addr:#x}", rule, errno.ENODEV)
    return check_rights(vma, addr, flags)


def _columns(vma: VMA, first: int, last: int, skip: int, nbytes: int, faults: int) -> _Columns:
    """Return the runs of [first, last), less `skip` bytes in front, `nbytes` in all."""
    owner = provider_of(vma)
    addrs, lens = vma.table.runs(first, last)
    over = ((last - first) << PAGE_SHIFT) - skip - nbytes
    if skip or over:
        addrs, lens = addrs.copy(), lens.copy()
        addrs[0] += skip
        lens[0] -= skip
        lens[-1] -= over
    return _Columns(addrs, lens, owner.cls if owner else RAM, taken_leaves(vma.table, first, last), faults)


def _found(parts: list[_Columns]) -> UserPhyrs:
    """Join `parts`, in the order of the user's bytes."""
    ptes, faults = sum(part.ptes for part in parts), sum(part.faults for part in parts)
    if len(parts) == 1:
        phyrs = phyrs_of(parts[0].addrs, parts[0].lens, parts[0].cls)
    else:
        addrs = np.concatenate([part.addrs for part in parts]) if parts else np.empty(0, np.int64)
        lens = np.concatenate([part.lens for part in parts]) if parts else np.empty(0, np.int64)
        one = len({part.cls for part in parts}) == 1
        phyrs = phyrs_of(addrs, lens, parts[0].cls if one else [p.cls for p in parts for _ in range(len(p.addrs))])
    return UserPhyrs(phyrs, phyrs.nbytes, ptes, faults)
