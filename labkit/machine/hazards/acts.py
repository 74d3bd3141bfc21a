"""What may happen to the memory of an IO, act by act, by the ways that the kernel has for it.

An act yields what it waits for, and returns what came of it: done, refused (EAGAIN, EBUSY), waited (the owner let the
IO end first), or orphaned (done, and what the device writes from then on is in no file).
"""

import errno
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from labkit.errors import InvariantError, SyscallError
from labkit.hardware.clock import Wait
from labkit.kernel.currency.listed import ListedCurrency
from labkit.kernel.mm.backing.filemap import AddressSpace
from labkit.kernel.mm.backing.remap_pfn import PfnMapping
from labkit.kernel.mm.fault.ksm import merge
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.migrate import compact_range, migrate_pages
from labkit.kernel.mm.fault.mmap import do_mmap, do_mprotect, do_munmap
from labkit.kernel.mm.gup.gup import unpin_user_pages
from labkit.kernel.mm.gup.phyrs import pin_phyrs, put_user_phyrs
from labkit.kernel.mm.page_alloc.free_area import PAGEBLOCK_ORDER
from labkit.kernel.mm.pin.ops import Event
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.machine.hazards.faulty import Faulty
from labkit.machine.hazards.stage import Io, Stage
from labkit.machine.hazards.victim import Victim, fill
from labkit.machine.invariants.census import frames_of
from labkit.machine.premapped import registry_of
from labkit.scatter.payload import Range
from labkit.trace.page_flags import PG_anon
from labkit.trace.snapshot import PinState
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PhysAddr


class Done(NamedTuple):
    """What came of an act: done, refused, waited or orphaned; in one sentence; and what is to be watched."""

    outcome: str
    text: str
    victim: Victim | None = None
    """Who the act itself gave the memory to."""
    clean_up: Callable[[], None] | None = None
    """What sets right what a bug left, after the run has been judged."""


Act = Callable[[Stage, Io], Generator[Wait, Any, Done]]


def munmap(stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Let the task unmap its buffer: frames that somebody holds stay until that ends, the others are free at once."""
    waited = yield from _wait_for_leases(stage, io, "munmap")
    addr, nbytes = io.pages
    do_munmap(io.mm, addr, nbytes)
    return Done(_done(waited), f"the task unmaps its buffer of {nbytes >> PAGE_SHIFT} pages")


def mprotect(_stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Let the task take away its right to write: a device does not go through page tables."""
    yield from ()
    do_mprotect(io.mm, *io.pages, "r--")
    return Done("done", "the task makes its buffer read-only; the device has its addresses already")


def fork(stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Let the task fork, and write to each page of its buffer: it is copied for the one or for the other (MM-19)."""
    waited = yield from _wait_for_leases(stage, io, "fork")
    mm, vma, (start, nbytes) = io.mm, io.vma, io.pages
    before = io.mapped
    child = io.task.fork()
    if "w" in vma.prot:
        handle_mm_fault(mm, vma, vma.page(start), vma.page(start) + (nbytes >> PAGE_SHIFT), write=True)
    kept = io.mapped == before
    whose = "keeps its pages, the child has copies" if kept else "gets copies, the child keeps the pages"
    return Done(_done(waited), f"the task forks mm {child.mm.task}, and writes to its buffer: it {whose}")


def migrate(stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Move the buffer elsewhere, as compaction does (MM-21)."""
    waited = yield from _wait_for_leases(stage, io, "migration")
    found = migrate_pages(stage.frames, stage.mms, io.mapped)
    if not found.moved:
        return _refused(found.error, f"none of {len(found.stayed)} folios moves")
    return Done(_done(waited), f"{len(found.moved)} folios move elsewhere, and {len(found.stayed)} stay")


def compact(stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Empty every pageblock that holds a page of the buffer, as whoever wants a huge page does (MM-21)."""
    waited = yield from _wait_for_leases(stage, io, "migration")
    blocks = sorted({pfn >> PAGEBLOCK_ORDER for pfn in frames_of(io.mapped).tolist()})
    size = PAGE_SIZE << PAGEBLOCK_ORDER
    found = [compact_range(stage.frames, stage.mms, block * size, size) for block in blocks]
    moved, stay = (sum(len(getattr(each, which)) for each in found) for which in ("moved", "stayed"))
    if not moved:
        return _refused(found[0].error, f"none of {len(blocks)} pageblocks becomes free")
    return Done(_done(waited), f"{len(blocks)} pageblocks are emptied: {moved} folios move, and {stay} stay")


def truncate(stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Cut the file behind the buffer to nothing: it waits for leases, as fsdax does, and for no pin (MM-24)."""
    file = io.vma.ops
    if not isinstance(file, AddressSpace):
        raise SyscallError("truncate", f"memory of kind {file.kind}", "is of no file", errno.EINVAL)
    waited = yield from _wait_for_leases(stage, io, "truncate")
    file.truncate(0)
    lost = any(map(stage.frames.folios.phys_to_folio, _addrs(io.ranges))) and not waited
    if lost:
        return Done("orphaned", "the file is cut to nothing; its pages are pinned, and live on in no file (MM-24)")
    return Done(_done(waited), "the file is cut to nothing, and its pages are free")


def ksm(stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Let a scanner find that the buffer holds what another mapping holds, and merge the two (MM-22)."""
    waited = yield from _wait_for_leases(stage, io, "ksm")
    mm, task, (start, nbytes) = io.mm, io.task, io.pages
    twin = do_mmap(mm, nbytes, "rw-", "twin")
    task.store(twin, task.load(start, nbytes))
    before = io.mapped
    merge(mm, ((twin, nbytes), (start, nbytes)), lambda addr, n: stage.ram.gather(((addr, n),)))
    if io.mapped == before:
        bad = SyscallError("ksm", "the buffer", _why_not_merged(io, before), errno.EBUSY)
        return _refused(bad, "no page is merged")
    return Done(_done(waited), "the buffer's pages are equal to others, and become one with them")


def _why_not_merged(io: Io, before: list[Range]) -> str:
    """Return why ksm leaves what the buffer maps alone."""
    folios = [io.mm.folios.phys_to_folio(addr) for addr in _addrs(before)]
    if not all(folio and folio.flags & PG_anon for folio in folios):
        return "is of pages that are not anonymous, which ksm leaves alone"
    if all(folio and folio.order for folio in folios):
        return "is of large folios, which ksm leaves alone"
    return "looks pinned, and stays exclusive (MM-22)"


def unplug(stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Take away the device whose memory the buffer is; its addresses go to the next one that is plugged in (D-13)."""
    name, device = _plugged(stage, io)
    ledger = stage.frames.ledger
    if any(ledger.held[token].policy == "range" for token in ledger.holding(device.runs)):
        bad = SyscallError("unplug", name, "is held by a pin in the ledger", errno.EBUSY)
        return _refused(bad, "the device stays")
    leases = ledger.leases(device.runs)
    if leases:
        device.revoke()
        yield from _wait_for(stage, io, leases)
    return _go(stage, io, name, device, "waited" if leases else "done")


def unplug_surprise(stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Pull the device out, whoever uses it; its addresses go to the next one that is plugged in (D-13)."""
    yield from ()
    return _go(stage, io, *_plugged(stage, io), "done")


def early_unpin(stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Let go of the pins while the device writes, as a bug would; then memory moves, since nobody holds it."""
    early = _unpin_early(stage, io)
    if not early:
        raise SyscallError("early-unpin", "the buffer", "is held by no pin that could be let go of", errno.EINVAL)
    for pin in early:
        stage.emit("GupUnpin", pin.token, 0, 0, io=pin.io)
        if pin.token in stage.frames.ledger.held:  # the IO's own; a registration is gone
            _tell_pin(stage, io, pin.token, pin._replace(policy="none"))
    done = yield from migrate(stage, io)
    return Done(done.outcome, f"{len(early)} pins are let go of while the device uses the memory; {done.text}")


def missing_unpin(stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Take one pin more than anybody will let go of, as a bug on a path of errors would."""
    yield from ()
    tokens: list[int] = []
    currency = stage.dio.currency
    policy = currency.inner.policy if isinstance(currency, ListedCurrency) else currency.policy
    for pin in io.pins:
        state, phyrs = stage.frames.ledger.peek(pin.token, 1)
        token, _ = pin_phyrs(io.mm, phyrs, POLICIES[policy], io.number)
        _tell_pin(stage, io, token, state._replace(policy=policy))
        tokens.append(token)

    def let_go() -> None:
        for token in tokens:
            put_user_phyrs(io.mm, token)
            stage.emit("GupUnpin", token, 0, 0, io=io.number)
        stage.frames.release_orphans()

    return Done("done", f"{len(tokens)} pins more are taken, and nobody will let go of them", clean_up=let_go)


def double_unpin(stage: Stage, io: Io) -> Generator[Wait, Any, Done]:
    """Let go of the pins once more, when the IO has: a token is refused (PHYR-17), counts of pages go wrong."""
    if not io.pins:
        raise SyscallError("double-unpin", "the IO", "holds no pin that could be let go of twice", errno.EINVAL)
    yield from _wait_for(stage, io, tuple(pin.token for pin in io.pins))
    if stage.dio.currency.name != "page":
        try:
            put_user_phyrs(io.mm, io.pins[0].token)
        except InvariantError as bad:
            return Done("refused", f"{bad}: a pin cannot be let go of twice")
    runs = [(pfn << PAGE_SHIFT, PAGE_SIZE) for pfn in io.frames]
    unpin_user_pages(io.mm, runs)

    def pin_again() -> None:
        io.mm.folios.pin(runs)

    return Done("done", f"{len(runs)} pages are unpinned once more than they were pinned", clean_up=pin_again)


def _unpin_early(stage: Stage, io: Io) -> tuple[PinState, ...]:
    """Let go of what keeps the buffer in place: the IO's pins, or a registration's; return what was held."""
    currency = stage.dio.currency
    listed = currency if isinstance(currency, ListedCurrency) else None
    region = listed.find(io.mm.task, io.buf, io.nbytes) if listed else None
    if listed and region and region.token:
        pin = stage.frames.ledger.held[region.token]
        put_user_phyrs(io.mm, region.token)
        listed.regions[io.mm.task, region.addr] = region._replace(token=0)
        return (pin,)
    if registry := registry_of(currency):
        return registry.unpin_early(io.mm, io.buf)
    bug = listed.inner if listed else currency
    return bug.unpin_early() if isinstance(bug, Faulty) else ()


def _tell_pin(stage: Stage, io: Io, token: int, pin: PinState) -> None:
    """Tell the trace of a pin that is taken beside the IO's own."""
    io.acted.add(token)
    stage.emit("GupPin", token, pin.policy, io.buf, pin.ranges, 0, 0, 0, 0, 0, io.mm.task, io=pin.io)


ACTS: dict[str, Act] = {
    "munmap": munmap, "mprotect": mprotect, "migrate": migrate, "compact": compact, "fork": fork,
    "truncate": truncate, "ksm": ksm, "unplug": unplug, "unplug-surprise": unplug_surprise,
    "early-unpin": early_unpin, "double-unpin": double_unpin, "missing-unpin": missing_unpin,
}  # fmt: skip
"""Every act by the name that a scenario has for it."""


def _wait_for_leases(stage: Stage, io: Io, event: Event) -> Generator[Wait, Any, bool]:
    """Wait until nobody uses the buffer under a lease, where whoever does `event` knows of leases; return whether."""
    leases = stage.frames.ledger.leases(io.ranges) if event in POLICIES["lease"].blocks else ()
    yield from _wait_for(stage, io, leases)
    return bool(leases)


def _wait_for(stage: Stage, io: Io, tokens: tuple[int, ...]) -> Generator[Wait, Any, None]:
    """Wait until each of `tokens` is let go of, and compare the bytes before anything changes."""
    for token in tokens:
        if token in stage.frames.ledger.held:
            released = stage.clock.event()
            stage.frames.ledger.on_release(token, lambda _pin, fired=released: fired.succeed())  # type: ignore[misc]
            yield released
    if tokens:
        io.look()


def _plugged(stage: Stage, io: Io) -> tuple[str, PfnMapping]:
    """Return the device whose memory the buffer is, and its name. Raises SyscallError EINVAL where it is of none."""
    ops = io.vma.ops
    for name, device in stage.slots.plugged.items():
        if device is ops and isinstance(device, PfnMapping):
            return name, device
    raise SyscallError("unplug", f"memory of kind {ops.kind}", "is no device that can be pulled out", errno.EINVAL)


def _go(stage: Stage, io: Io, name: str, device: PfnMapping, outcome: str) -> Done:
    """Unmap the memory of `device`, let nothing answer there, and plug another device into the same addresses."""
    start, nbytes = device.runs[0][0], device.nbytes
    device.revoke()
    stage.emit("MemunmapPages", name, start, nbytes)
    del stage.slots.plugged[name]
    stage.slots.pcie.unplug(name)
    stage.ram.revoke(start)
    stage.frames.buddy.memblock.remove(PhysAddr(start))
    task = stage.spawn()
    other = stage.slots.bar("gpu", nbytes)
    victim = fill(stage, task, other.mmap(task.mm, nbytes), other.runs)
    where = "the same addresses" if other.runs[0][0] == start else "other addresses"
    text = f"{name} is gone, and another device has {where}, with bytes of its own"
    return Done(outcome, text, victim._replace(ranges=tuple(_within(io, victim.ranges))))


def _within(io: Io, ranges: tuple[Range, ...]) -> list[Range]:
    """Return the pages of `ranges` that the IO uses: the others need no look."""
    inside = [pfn << PAGE_SHIFT for pfn in io.frames]
    return [(addr, PAGE_SIZE) for addr in inside if any(lo <= addr < lo + n for lo, n in ranges)]


def _addrs(ranges: list[Range]) -> list[PhysAddr]:
    """Return the address of the first page of each range."""
    return [PhysAddr(addr) for addr, _ in ranges]


def _refused(bad: SyscallError | None, text: str) -> Done:
    return Done("refused", f"{bad}: {text}" if bad else text)


def _done(waited: bool) -> str:
    return "waited" if waited else "done"
