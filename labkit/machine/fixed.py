"""Buffers that are ready before the IO: registered once (io_uring), or the kernel's own (KVEC)."""

import errno
from collections.abc import Sequence

from labkit.errors import SyscallError
from labkit.host.signals import whole
from labkit.kernel.currency.fill import fixed_table
from labkit.kernel.currency.listed import ListedCurrency, Region
from labkit.kernel.currency.peers import class_of
from labkit.kernel.dio import DirectIO
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.gup.follow import FOLL_LONGTERM, FOLL_PIN, group_of
from labkit.kernel.mm.gup.phyrs import get_user_phyrs, pin_phyrs, put_user_phyrs
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.version import Rules
from labkit.machine.plug import kernel_pages
from labkit.machine.premapped import Premapped, registry_of
from labkit.scatter.payload import Range, Ranges
from labkit.scatter.phyr import Phyrs, phyrs_of
from labkit.task import KERNEL, MAX_BYTES, Task
from labkit.units import PAGE_SHIFT, PAGE_SIZE, PHYS_PFN, PhysAddr, UserAddr, human_bytes

VMALLOC_START = KERNEL + 0x4900_0000_0000
"""Where vmalloc maps with four levels of page tables: 0xffffc90000000000."""


class Fixed:
    """The registered buffers of one machine, and the kernel's. Its DirectIO learns of them with the first."""

    def __init__(self, frames: Frames, dio: DirectIO, mms: Sequence[Mm], rules: Rules) -> None:
        """Serve `dio` as the kernel of `rules`; `mms` are all address spaces, which a migration has to look through."""
        self.frames, self._dio, self._mms, self._rules = frames, dio, mms, rules
        self._next = VMALLOC_START
        self.rlimit_memlock: int | None = None
        """Bytes that a task may register, whole folios counted; None for a privileged one (REG-3)."""

    def register(self, task: Task, addr: int, nbytes: int, *, indexed: bool = False) -> int:
        """Pin user memory for the long term, once (io_sqe_buffer_register, REG-1); return the token.

        What lies in ZONE_MOVABLE migrates out of it before (MM-21). What was registered at `addr` until now is let go
        of, as IORING_REGISTER_BUFFERS_UPDATE does. Raises SyscallError: EFAULT, ENOMEM, EOPNOTSUPP as
        pinning does, EAGAIN for memory that may not stay and cannot move, ENOMEM beyond RLIMIT_MEMLOCK; EFAULT for no
        byte, EINVAL for more than 1 TiB (REG-1). Nothing is registered then, nor when Ctrl-C comes. Where memory is
        mapped beforehand, it is mapped, too, with the errors of Premapped.register, and a token may be 0.
        `indexed`: for the entries of a ring that name it by its index (REG-4), not for all IO at its address.
        """
        _check_length(nbytes)
        if self._premapped is not None:
            return self._premapped.register(task.mm, addr, nbytes).token
        if (task.mm.task, addr) in self._regions:
            self.release(task, addr)
        try:
            with whole():
                return self._pin(task, addr, nbytes, indexed)
        except BaseException:
            if (task.mm.task, addr) in self._regions:
                self.release(task, addr)
            raise

    def _pin(self, task: Task, addr: int, nbytes: int, indexed: bool) -> int:
        flags = FOLL_PIN | FOLL_LONGTERM
        found = get_user_phyrs(task.mm, addr, nbytes, write=True, flags=flags, mms=self._mms)
        if self._currency().inner.name != "phyr":
            _check_pages(task.mm, addr, found.phyrs)
        self._account(task, found.phyrs.vecs)
        policy = POLICIES[self._currency().inner.policy]
        table = self._table(found.phyrs.vecs, addr % PAGE_SIZE, nbytes)
        token, cost = pin_phyrs(task.mm, found.phyrs, policy, 0)
        self._currency().regions[task.mm.task, addr] = Region(addr, found.phyrs, token, table, indexed)
        self.frames.emit((
            "GupPin", self.frames.now(), 0, token, policy.name, addr, found.phyrs.vecs, found.ptes, cost.atomics,
            cost.struct_pages, cost.bytes_held, cost.cache_lines, task.mm.task, found.faults,
        ))  # fmt: skip
        return token

    def vmalloc(self, task: Task, nbytes: int) -> UserAddr:
        """Take a kernel buffer of `nbytes` for IO of `task`; return its address. Raises ENOMEM, EOPNOTSUPP."""
        regions = self._currency().regions
        runs, addr = kernel_pages(self.frames, nbytes), self._next
        self._next += nbytes + PAGE_SIZE
        task.vmap[addr] = runs
        phyrs = phyrs_of([start for start, _ in runs], [size for _, size in runs])
        regions[task.mm.task, addr] = Region(addr, phyrs)
        return UserAddr(addr)

    @whole()
    def release(self, task: Task, addr: int) -> None:
        """Unregister the buffer that holds `addr`, mapped still or not; or free the kernel's. Errors: as unpinning.

        Where no buffer holds it, nothing happens.
        """
        region = self.find(task, addr)
        if region is None:
            if self._premapped is not None:
                self._premapped.unregister(task.mm, addr)
            return
        del self._currency().regions[task.mm.task, region.addr]
        if region.token:
            cost = put_user_phyrs(task.mm, region.token)
            try:
                self.frames.emit(("GupUnpin", self.frames.now(), 0, region.token, cost.atomics, cost.struct_pages))
            finally:
                self.frames.release_orphans()
        for start, nbytes in task.vmap.pop(region.addr, ()):
            for at in range(start, start + nbytes, PAGE_SIZE):
                self.frames.wipe(at, PAGE_SIZE)
                self.frames.buddy.free_pages(PHYS_PFN(PhysAddr(at)), 0)

    def find(self, task: Task, addr: int) -> Region | None:
        """Return the buffer of `task` that begins at `addr`, or else holds it: the mapping may be another by now."""
        if (begins := self._regions.get((task.mm.task, addr))) is not None:
            return begins
        mine = (region for (owner, _), region in self._regions.items() if owner == task.mm.task)
        return next((region for region in mine if region.addr <= addr < region.addr + region.phyrs.nbytes), None)

    def exit(self, task: Task) -> None:
        """Let go of what `task`, which ends, has mapped beforehand, wherever that was mapped in it."""
        if self._premapped is not None:
            self._premapped.unregister_all(task.mm)

    @property
    def kernel_frames(self) -> int:
        """Frames of the kernel's own buffers."""
        return sum(part.phyrs.nbytes for (_, addr), part in self._regions.items() if addr >= KERNEL) >> PAGE_SHIFT

    @property
    def _regions(self) -> dict[tuple[int, int], Region]:
        currency = self._dio.currency
        return currency.regions if isinstance(currency, ListedCurrency) else {}

    @property
    def _premapped(self) -> Premapped | None:
        """The registry, where buffers are mapped beforehand: then nothing is listed here."""
        return registry_of(self._dio.currency)

    def _table(self, vecs: Ranges, skip: int, nbytes: int) -> tuple[Range, ...]:
        """Return the vectors that upstream keeps of a registration (R17); none where ranges flow."""
        if self._currency().inner.name == "phyr":
            return ()
        whole = tuple((a & -PAGE_SIZE, -(-(a % PAGE_SIZE + n) // PAGE_SIZE) * PAGE_SIZE) for a, n in vecs)
        return fixed_table(whole, skip, nbytes, self._folio, self._rules)

    def _folio(self, addr: int) -> Range:
        group = group_of(self.frames.folios, addr >> PAGE_SHIFT)
        size = PAGE_SIZE << (group.order if group is not None else 0)
        return addr & -size, size

    def _account(self, task: Task, runs: Ranges) -> None:
        """Raise SyscallError ENOMEM if `runs` and what the task has registered are more than its limit (REG-3)."""
        if self.rlimit_memlock is None:
            return
        mine = [region.phyrs.vecs for (owner, _), region in self._regions.items() if owner == task.mm.task]
        locked = sum(self._folio_bytes(vecs) for vecs in (*mine, runs))
        if locked > self.rlimit_memlock:
            rule = f"to register is more than the {human_bytes(self.rlimit_memlock)} of RLIMIT_MEMLOCK"
            raise SyscallError("io_uring", human_bytes(locked), rule, errno.ENOMEM)

    def _folio_bytes(self, runs: Ranges) -> int:
        whole = tuple((a & -PAGE_SIZE, -(-(a % PAGE_SIZE + n) // PAGE_SIZE) * PAGE_SIZE) for a, n in runs)
        return sum(group.nbytes * group.count for group, _ in self.frames.folios.groups(whole))

    def _currency(self) -> ListedCurrency:
        if self._premapped is not None:
            rule = "is mapped for no device, and a registration is of user memory (DMABUF-1)"
            raise SyscallError("premapped", "the kernel's own buffer", rule, errno.EOPNOTSUPP)
        if not isinstance(self._dio.currency, ListedCurrency):
            self._dio.currency = ListedCurrency(self._dio.currency)
        return self._dio.currency


def _check_pages(mm: Mm, addr: int, phyrs: Phyrs) -> None:
    """Raise EREMOTEIO where pages of a PCI device are in `phyrs`: none may be held for the long term (MM-3, MM-12)."""
    at = addr
    for _, nbytes in phyrs.classes:
        if class_of(mm, at).kind == "mmio":
            rule = "is memory of a PCI device, whose pages are not held for the long term (MM-3, MM-12)"
            raise SyscallError("gup", f"addr={at:#x}", rule, errno.EREMOTEIO)
        at += nbytes


def _check_length(nbytes: int) -> None:
    """Raise SyscallError EFAULT, EINVAL for a length that nobody registers (REG-1)."""
    if not 0 < nbytes <= MAX_BYTES:
        rule, code = ("is no byte", errno.EFAULT) if nbytes < 1 else ("is more than 1 TiB", errno.EINVAL)
        raise SyscallError("io_uring", f"length={nbytes}", f"{rule} (REG-1)", code)
