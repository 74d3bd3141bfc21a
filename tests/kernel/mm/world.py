"""A machine's memory without its devices, what its tasks wrote, and a look at everything after each step."""

from collections import Counter

from labkit.errors import SyscallError
from labkit.hardware.ram import RAM
from labkit.host.memory.arena import arena, release
from labkit.kernel.mm.backing.filemap import AddressSpace, mmap_file
from labkit.kernel.mm.backing.hugetlb import HugetlbPool
from labkit.kernel.mm.fault.fork import dup_mmap, exit_mmap
from labkit.kernel.mm.fault.ksm import merge
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.migrate import migrate_longterm, migrate_pages
from labkit.kernel.mm.fault.mmap import do_madvise, do_mmap, do_mprotect, do_munmap
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.gup.follow import FOLL_LONGTERM, FOLL_PIN
from labkit.kernel.mm.gup.phyrs import get_user_phyrs, pin_phyrs, put_user_phyrs, split_token
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK
from labkit.machine.invariants.census import take_census
from labkit.machine.invariants.free_frames import check_buddy, set_aside
from labkit.machine.invariants.memory import check_memory
from labkit.trace.page_flags import PG_anon
from labkit.trace.snapshot import Snapshot, translation_runs
from labkit.trace.state import _State, state_at
from labkit.trace.tracer import typed

PAGE = 4096
ZEROS = bytes(8)
KEEPS = ("page", "folio", "range")
"""Policies under which a device and the task see the same bytes, whatever happens in between."""


class Broke(AssertionError):
    """An invariant does not hold; `names` are those that do not."""

    def __init__(self, found):
        super().__init__("\n".join(f"{name}: {text}" for name, text, _ in found))
        self.names = {name for name, _, _ in found}


class World:
    """Frames and tasks. Every verb does one thing, keeps the shadow, and may raise SyscallError as the kernel does."""

    def __init__(self, nbytes=64 << 20, movablecore=0):
        self.raw, self.time = [], 0
        self.buddy = Buddy(nbytes, movablecore=movablecore)
        ram = RAM(arena(self.buddy.phys_end), release=release)
        self.ram = ram

        def copy(to, source, count):
            ram.scatter(((to, count),), ram.gather(((source, count),)))

        self.frames = Frames(self.buddy, self.raw.append, lambda: self.time, ram.wipe, copy)
        self.state, self.told = _State(), []
        self.mms, self.tags = [], 0
        self.shadow, self.content, self.pins, self.lowest = {}, {}, {}, {}
        """What tasks wrote to their own pages, by (task, user address); what is in files, by (file, page); pins, and
        the first address of each."""
        self.files = [
            AddressSpace(self.frames, f"file{i}", 48 * PAGE, order=order) for i, order in enumerate((0, 0, 2, 4))
        ]
        self.pool = HugetlbPool(self.frames, 3)
        self.task()

    def task(self):
        self.mms.append(Mm(self.frames, len(self.mms)))
        return self.mms[-1]

    @property
    def alive(self):
        return [mm for mm in self.mms if mm.space.vmas] or self.mms[:1]

    def mmap(self, mm, pages, order=0, prot="rw-", **more):
        return do_mmap(mm, pages * PAGE, prot, "test", order, **more)

    def mmap_file(self, mm, which, pages, prot, *, shared):
        return mmap_file(mm, self.files[which % len(self.files)], pages * PAGE, prot, shared=shared)

    def mmap_hugetlb(self, mm, pages):
        return self.pool.mmap(mm, pages * self.pool.size)

    def truncate(self, which, pages):
        """Cut a file, or make it longer: what was beyond is gone, wherever it was mapped, copies too."""
        file = self.files[which % len(self.files)]
        file.truncate(pages * PAGE)
        self.content = {key: tag for key, tag in self.content.items() if key[0] is not file or key[1] < pages}
        for mm in self.mms:
            for vma in mm.space.vmas:
                at = max(0, pages - vma.pgoff)
                if vma.ops is file and at < vma.pages:
                    self._forget(mm, vma.start + at * PAGE, vma.pages - at)

    def munmap(self, mm, addr, pages):
        do_munmap(mm, addr, pages * PAGE)
        self._forget(mm, addr, pages)

    def dontneed(self, mm, addr, pages):
        do_madvise(mm, addr, pages * PAGE, 4)
        self._forget(mm, addr, pages)

    def mprotect(self, mm, addr, pages, prot):
        do_mprotect(mm, addr, pages * PAGE, prot)

    def touch(self, mm, addr, pages, *, write):
        vma = mm.space.find_vma(addr)
        handle_mm_fault(mm, vma, vma.page(addr), vma.page(addr) + pages, write=write)

    def store(self, mm, addr, pages):
        """Write a tag that nobody wrote before to the first bytes of each page."""
        self.touch(mm, addr, pages, write=True)
        for va in range(addr, addr + pages * PAGE, PAGE):
            self.ram.scatter(((self.phys(mm, va), 8),), self._tag(mm, va))

    def fork(self, mm):
        child = self.task()
        dup_mmap(mm, child)
        self.shadow |= {(child.task, va): tag for (task, va), tag in self.shadow.items() if task == mm.task}
        return child

    def exit(self, mm):
        exit_mmap(mm)
        self._forget(mm, 0, 1 << 40)

    def pin(self, mm, addr, pages, policy, *, write=True, flags=0):
        found = get_user_phyrs(mm, addr, pages * PAGE, write=write, flags=flags)
        token, cost = pin_phyrs(mm, found.phyrs, POLICIES[policy], 1)
        ranges = found.phyrs.vecs
        self.frames.emit(("GupPin", self.time, 1, token, policy, addr, ranges, found.ptes, cost.atomics, 0, 0))
        seen = set(range(addr, addr + pages * PAGE, PAGE)) if write and policy in KEEPS else set()
        self.pins[token] = (mm, {va: self.phys(mm, va) for va in seen})
        self.lowest[token] = addr
        return token

    def register(self, mm, addr, pages):
        """Pin for the long term, as a registration does: what may not stay where it is moves before (REG-1, MM-21)."""
        found = get_user_phyrs(mm, addr, pages * PAGE, write=True, flags=FOLL_PIN | FOLL_LONGTERM)
        moved = migrate_longterm(self.frames, self.mms, found.phyrs.vecs)
        if moved.error is not None:
            raise moved.error
        return self.pin(mm, addr, pages, "page", flags=FOLL_PIN | FOLL_LONGTERM)

    def split(self, token, page):
        """Make two pins of one (PHYR-17): before `page`, counted as the pin's pages go, and from there on."""
        mm, seen = self.pins[token]
        first, second = split_token(mm, token, page * PAGE, io=1)
        del self.pins[token]
        self.lowest[first] = self.lowest.pop(token)
        self.lowest[second] = at = self.lowest[first] + page * PAGE
        self.pins[first] = (mm, {va: pa for va, pa in seen.items() if va < at})
        self.pins[second] = (mm, {va: pa for va, pa in seen.items() if va >= at})
        return first, second

    def ksm(self, mm, addr, pages):
        """Merge what is equal in these pages and in all that the task has mapped."""
        every = [(vma.start, min(vma.end - vma.start, 24 * PAGE)) for vma in mm.space.vmas]
        return merge(mm, [(addr, pages * PAGE), *every], lambda at, n: self.ram.gather(((at, n),)))

    def unpin(self, token):
        mm, _ = self.pins.pop(token)
        put_user_phyrs(mm, token)
        mm.frames.release_orphans()
        self.frames.emit(("GupUnpin", self.time, 1, token, 0, 0))

    def dma(self, token):
        """Let a device write to what `token` holds: the task sees it where it has not let go of its page."""
        mm, pages = self.pins[token]
        for va, pa in pages.items():
            self.ram.scatter(((pa, 8),), self._tag(mm, va))

    def migrate(self, mm, addr, pages):
        runs = [(self.phys(mm, va), PAGE) for va in range(addr, addr + pages * PAGE, PAGE) if self.phys(mm, va)]
        return migrate_pages(self.frames, self.mms, runs)

    def phys(self, mm, va):
        vma = mm.space.find_vma(va)
        return vma.table.word(vma.page(va)) & ADDR_MASK if vma else 0

    def tell(self):
        """Give the records their types, and let them happen to the state that the trace tells of."""
        fresh = [typed(raw) for raw in self.raw]
        self.raw.clear()
        for rec in fresh:
            self.state.apply(rec)
        self.told += fresh
        self.time += 1

    def snapshot(self, t):
        vmas = ((v.start, v.end - v.start, v.prot, v.name, mm.task) for mm in self.mms for v in mm.space.vmas)
        held = self.frames.ledger.held
        return Snapshot(
            t=t,
            vmas=tuple(sorted(vmas)),
            pages=tuple(run for mm in self.mms for run in translation_runs(mm.translations(), mm.task)),
            folios=tuple(self.frames.folios.states()),
            pins=tuple(held[token] for token in sorted(held)),
        )

    def broken(self):
        """Return every invariant that does not hold."""
        found = list(check_memory(self.frames, self.mms))
        found += check_buddy(self.buddy, take_census(self.frames.folios), set_aside(self.frames))
        found += [("bytes", text, 0) for text in self._wrong_bytes()]
        return found

    def look(self):
        """Raise Broke where an invariant does not hold, or the trace tells of another machine than this."""
        self.tell()
        found = self.broken()
        told, live = self.state.freeze(self.time), self.snapshot(self.time)
        found += [
            ("trace", f"{name}: {_first(getattr(told, name), getattr(live, name))}", 0)
            for name in ("vmas", "pages", "folios", "pins")
            if getattr(told, name) != getattr(live, name)
        ]
        if found:
            raise Broke(found)

    def end(self):
        """Let go of everything; nothing may be left."""
        for token in tuple(self.pins):
            self.unpin(token)
        for mm in self.mms:
            self.exit(mm)
        for which in range(len(self.files)):
            self.truncate(which, 0)
        self.look()
        assert list(self.frames.folios.states()) == []
        assert self.frames.orphans == []
        assert state_at(self.told, self.time) == self.snapshot(self.time)

    def _tag(self, mm, va):
        self.tags += 1
        tag = self.tags.to_bytes(8, "little")
        vma = mm.space.find_vma(va)
        if vma.cow:
            self.shadow[mm.task, va] = tag
        else:
            self.content[vma.ops, vma.pgoff + vma.page(va)] = tag
        return tag

    def _forget(self, mm, addr, pages):
        gone = range(addr, addr + pages * PAGE, PAGE)
        if pages < 1 << 20:
            for va in gone:
                self.shadow.pop((mm.task, va), None)
        else:
            self.shadow = {key: tag for key, tag in self.shadow.items() if key[0] != mm.task}
        for token, (owner, seen) in self.pins.items():
            if owner is mm:
                self.pins[token] = (mm, {va: pa for va, pa in seen.items() if not gone.start <= va < gone.stop})

    def _wrong_bytes(self):
        for mm in self.mms:
            for va, pa, nbytes, _ in mm.translations():
                for skip in range(0, nbytes, PAGE):
                    found, expected = self.ram.gather(((pa + skip, 8),)), self._expected(mm, va + skip, pa + skip)
                    if found != expected:
                        yield f"mm {mm.task} reads {found.hex()} at {va + skip:#x} where {expected.hex()} was written"

    def _expected(self, mm, va, pa):
        """Return what was written last; a private page of a file is the file's until it is copied, and its own then."""
        own, vma = self.shadow.get((mm.task, va)), mm.space.find_vma(va)
        if own is not None or vma.ops.kind in {"anon", "hugetlb"}:
            return own or ZEROS
        tag = self.content.get((vma.ops, vma.pgoff + vma.page(va)), ZEROS)
        if vma.cow and self.frames.folios.phys_to_folio(pa).flags & PG_anon:
            self.shadow[mm.task, va] = tag
        return tag


def _first(told, live):
    """Return the first difference of two lists, as text."""
    more, less = Counter(told) - Counter(live), Counter(live) - Counter(told)
    return f"the trace has {list(more)[:2]}, the machine {list(less)[:2]}"


__all__ = ["PAGE", "Broke", "SyscallError", "World"]
