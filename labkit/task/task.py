"""A program on the machine: memory that it maps, and system calls that it waits for."""

import errno
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

from labkit.errors import BadInput, SyscallError
from labkit.hardware.clock import Wait
from labkit.hardware.ram import RAM
from labkit.kernel.dio import File
from labkit.kernel.fs.resize import Resizer
from labkit.kernel.mm.backing.filemap import AddressSpace, mmap_file
from labkit.kernel.mm.fault.fork import dup_mmap, exit_mmap
from labkit.kernel.mm.fault.memory import FaultRetry, handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_madvise, do_mmap, do_mprotect, do_munmap, mm_populate
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.space.pte import ADDR_MASK
from labkit.kernel.syscall.table import Buffered, Syscalls
from labkit.kernel.syscall.uring import Uring
from labkit.scatter.payload import Range, Ranges, cut
from labkit.scenario import FOLIO_ORDER, KINDS, parse_bytes
from labkit.task.buffer import Buffer, buffer_of
from labkit.task.calls import Calls
from labkit.task.ring import Ring
from labkit.units import PAGE_SHIFT, PAGE_SIZE, UserAddr, human_bytes

KERNEL = 0xFFFF_8000_0000_0000
"""Where the kernel's half of the addresses begins."""
MAX_BYTES = 1 << 40
"""No mapping of a task is longer."""


class Openable(NamedTuple):
    """A file by name: what direct IO sees, its page cache, what a mapping maps, and who changes its length."""

    file: File
    cache: Buffered | None
    mapping: AddressSpace
    resizer: Resizer | None = None


class Volume(Protocol):
    """What has names in the machine: its device, and the files on it."""

    def find(self, path: str, *, create: bool = False) -> Openable:
        """Return what is at `path`. Raises SyscallError ENOENT, EISDIR, ENOSPC."""


class Kinds(Protocol):
    """How a task gets memory that is not anonymous, and what the machine does with it then."""

    def get(self, task: "Task", kind: str, nbytes: int, prot: str) -> UserAddr:
        """Map `nbytes` of `kind`, one of KINDS that is no size of folios; return the address."""

    def settle(self, task: "Task", kind: str, addr: int) -> None:
        """Let happen to what is mapped at `addr` what makes it that kind, now that it is filled."""

    def release(self, task: "Task", addr: int) -> None:
        """Undo what holds the buffer that holds `addr` beyond its mapping, which may be gone already."""

    def register(self, task: "Task", addr: int, nbytes: int) -> None:
        """Register `nbytes` at `addr` for the IO of a ring. Raises SyscallError EFAULT, ENOMEM, EOPNOTSUPP, EAGAIN."""

    def exit(self, task: "Task") -> None:
        """Let go of what `task` has mapped for devices: it ends."""


class Task(Calls):
    """One process. Its calls return what the kernel would, or raise SyscallError with the kernel's errno."""

    def __init__(
        self, syscalls: Syscalls, mm: Mm, ram: RAM, volume: Volume,
        wait: Callable[[Generator[Wait, Any, int]], int], grow_old: Callable[[int, int], None],
        kinds: Kinds | None = None, spawn: "Callable[[], Task] | None" = None,
    ) -> None:  # fmt: skip
        """Join the parts. `wait` runs a call to its end; `grow_old(order, bytes)` ages the memory that comes next.

        `kinds` brings memory that is not anonymous, `spawn` makes a task without any; without them there is none.
        """
        self.syscalls, self.mm, self._ram, self._volume = syscalls, mm, ram, volume
        self._wait, self._grow_old, self._kinds, self._spawn = wait, grow_old, kinds, spawn
        self._kind_at: dict[int, str] = {}
        self._open: dict[int, Openable] = {}
        self._rings: list[Ring] = []
        self.vmap: dict[int, Ranges] = {}
        """Buffers of the kernel's own that this task does IO with: address in the kernel, physical ranges."""

    def __repr__(self) -> str:
        """Return its number, and what it has mapped."""
        vmas = self.mm.space.vmas
        size = human_bytes(sum(vma.end - vma.start for vma in vmas))
        return f"<Task {self.mm.task}: {len(vmas)} mapping{'s' * (len(vmas) != 1)}, {size}, open {list(self.fds)}>"

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that are open."""
        return tuple(sorted(self._open))

    def buffer(self, buf: int) -> Buffer:
        """Return the buffer that holds user address `buf`, as it is now. Raises SyscallError EFAULT."""
        return buffer_of(self.mm, buf)

    def mmap(self, length: int | str, folio: str = "4 KiB", prot: str = "rw-", *, populate: bool = False) -> UserAddr:
        """Map `length` bytes; return the address. `folio`: the size of anonymous folios, or another of KINDS.

        `populate`: fault all of it in at once (MAP_POPULATE), in silence where that fails. A file made for the mapping
        goes with the last mapping of it; a device plugged in for it stays (Slots.unplug). Raises BadInput EINVAL for
        what is none of KINDS and for no length, SyscallError ENOMEM, ENODEV as the kind.
        """
        if isinstance(length, bool):
            raise BadInput("mmap", f"length={length}", "is not a number of bytes", errno.EINVAL)
        nbytes, kind = parse_bytes("mmap", "length", length), folio.replace(" ", "")
        if kind in FOLIO_ORDER:
            addr = do_mmap(self.mm, nbytes, prot, f"anon {folio}", FOLIO_ORDER[kind])
            self._kind_at.pop(addr, None)
            self.age(FOLIO_ORDER[kind], nbytes)
        else:
            addr = self._get(kind, folio, nbytes, prot)
        if populate:
            mm_populate(self.mm, addr, nbytes)
        return addr

    def _get(self, kind: str, folio: str, nbytes: int, prot: str) -> UserAddr:
        """Map `nbytes` of memory that is not anonymous; the task keeps no descriptor of a file that is behind it."""
        if kind not in KINDS or self._kinds is None:
            raise BadInput("mmap", f"folio={folio!r}", f"is not one of {', '.join(KINDS)}", errno.EINVAL)
        if nbytes < 1:
            raise BadInput("mmap", f"length={nbytes}", "is not a positive number of bytes", errno.EINVAL)
        if nbytes > MAX_BYTES:
            raise SyscallError("mmap", human_bytes(nbytes), "does not fit into the address space", errno.ENOMEM)
        addr = self._kinds.get(self, kind, nbytes, prot)
        self._kind_at[addr] = kind
        vma = self.mm.space.find_vma(addr)
        if vma is not None and isinstance(vma.ops, AddressSpace):
            vma.ops.close()
        return addr

    def age(self, order: int, nbytes: int) -> None:
        """Let the next `nbytes` of folios of `order` be what an earlier life of the machine left free."""
        self._grow_old(order, nbytes)

    def settle(self, buf: int) -> None:
        """Let the buffer that holds `buf`, now filled, become what it is: merged (ksm), shared with a child, ..."""
        for addr, kind in self._of(buf):
            self._kinds.settle(self, kind, addr)  # type: ignore[union-attr] # a kind came from there

    def release(self, buf: int) -> None:
        """Give back what holds the buffer that holds `buf` beyond its mapping, mapped still or not: a registration."""
        if self._kinds is not None:
            self._kinds.release(self, buf)

    def fork(self) -> "Task":
        """Return a child, which has all that is mapped here. Raises SyscallError ENOMEM, ENOSYS where none can be."""
        if self._spawn is None:
            raise SyscallError("fork", "this task", "is alone in its machine", errno.ENOSYS)
        child = self._spawn()
        dup_mmap(self.mm, child.mm)
        return child

    def munmap(self, addr: int, length: int | str | None = None) -> None:
        """Unmap `length` bytes from `addr` on; without a length, to the end of the mapping that is there."""
        vma = self.mm.space.find_vma(addr)
        rest = vma.end - addr if vma else PAGE_SIZE
        do_munmap(self.mm, addr, rest if length is None else parse_bytes("munmap", "length", length))

    def mprotect(self, addr: int, length: int | str, prot: str) -> None:
        """Give `length` bytes from `addr` on the rights `prot` ('r--'). Errors: do_mprotect."""
        do_mprotect(self.mm, addr, parse_bytes("mprotect", "length", length), prot)

    def madvise(self, addr: int, length: int | str, advice: int) -> None:
        """Take `advice`, a number MADV_*, for `length` bytes from `addr` on. Errors: do_madvise."""
        do_madvise(self.mm, addr, parse_bytes("madvise", "length", length), advice)

    def exit(self) -> None:
        """End: let go of registered and kernel buffers, and unmap everything. What an IO holds stays until it ends."""
        for ring in self._rings:
            ring.unregister_buffers()
        for addr in sorted(self._kind_at):
            self.release(addr)
        self._kind_at.clear()
        if self._kinds is not None:
            self._kinds.exit(self)
        exit_mmap(self.mm)

    def open(self, path: str, flags: str = "O_RDWR|O_DIRECT") -> int:
        """Open the block device of the machine, or a file on it ('O_CREAT' makes one); return a descriptor.

        Without O_DIRECT all IO goes through the page cache. Raises SyscallError ENOENT, EINVAL, ENOSPC.
        """
        words = flags.replace(" ", "").split("|")
        found = self._volume.find(path, create="O_CREAT" in words)
        fd = self.syscalls.open(
            found.file, "|".join(word for word in words if word != "O_CREAT"), found.cache, found.resizer
        )
        self._open[fd] = found
        return fd

    def io_uring(self) -> Ring:
        """Return a new ring: several IOs in one call, and registered buffers (R17..R19)."""
        return self._ring(Uring(self.syscalls))

    def aio(self) -> Ring:
        """Return what io_submit and io_getevents are to a program: as a ring, but it waits where it must."""
        return self._ring(Uring(self.syscalls, nowait=False))

    def mmap_fd(
        self, fd: int, length: int | str, prot: str = "rw-", offset: int = 0, *, shared: bool = True
    ) -> UserAddr:
        """Map `length` bytes of the open file `fd` from `offset` on; return the address. Errors: mmap_file, EBADF."""
        found = self._open.get(fd)
        if found is None:
            raise SyscallError("mmap", f"fd={fd}", "is not open", errno.EBADF)
        nbytes = parse_bytes("mmap", "length", length)
        return mmap_file(self.mm, found.mapping, nbytes, prot, shared=shared, offset=offset)

    def _ring(self, uring: Uring) -> Ring:
        self._rings.append(Ring(self, uring, self._wait, self._register, self.release))
        return self._rings[-1]

    def _register(self, addr: int, nbytes: int) -> None:
        if self._kinds is None:
            raise SyscallError("io_uring", f"addr={addr:#x}", "cannot be registered in this machine", errno.EOPNOTSUPP)
        self._retried(partial(self._kinds.register, self, addr, nbytes))

    def frames(self, addr: int, nbytes: int) -> Iterator[Range]:
        """Yield (physical address, bytes) page by page, each looked up by itself. Raises EFAULT where none is."""
        end = addr + nbytes
        for start, ranges in self.vmap.items():
            if start <= addr < start + sum(size for _, size in ranges):
                yield from cut(ranges, addr - start, nbytes)
                return
        while addr < end:
            vma = self.mm.space.find_vma(addr)
            pte = vma.table.word(vma.page(addr)) if vma else 0
            if not pte:
                raise SyscallError("mm", f"addr={addr:#x}", "is not present", errno.EFAULT)
            take = min(PAGE_SIZE - addr % PAGE_SIZE, end - addr)
            yield (pte & ADDR_MASK) + addr % PAGE_SIZE, take
            addr += take

    def load(self, addr: int, nbytes: int) -> bytes:
        """Return what the task sees at `addr`: untouched pages are faulted in, for reading (the zero page: MM-15).

        Raises SyscallError EFAULT where nothing is mapped or nobody may read, ENOMEM.
        """
        at, end = addr, addr + nbytes
        while at < end and addr < KERNEL:
            vma = self.mm.space.find_vma(at)
            if vma is None:
                raise SyscallError("mm", f"addr={at:#x}", "is not present", errno.EFAULT)
            stop = min(end, vma.end)
            last = vma.page(stop - 1) + 1
            self._retried(partial(handle_mm_fault, self.mm, vma, vma.page(at), last, write=False))
            at = stop
        return self._ram.gather(tuple(self.frames(addr, nbytes)))

    def store(self, addr: int, data: bytes) -> None:
        """Write `data` to user address `addr`: untouched pages are faulted in. Raises SyscallError EFAULT, ENOMEM."""
        if addr >= KERNEL:
            self._ram.scatter(tuple(self.frames(addr, len(data))), data)
            return
        vma = self.mm.space.find_vma(addr)
        if vma is None or addr + len(data) > vma.end or "w" not in vma.prot:
            raise SyscallError("mm", f"addr={addr:#x}+{len(data)}", "may not be written", errno.EFAULT)
        last = -(-(addr + len(data) - vma.start) // PAGE_SIZE)
        self._retried(partial(handle_mm_fault, self.mm, vma, (addr - vma.start) >> PAGE_SHIFT, last))
        self._ram.scatter(tuple(self.frames(addr, len(data))), data)

    def _retried(self, step: Callable[[], object]) -> None:
        """Do `step`; the clock runs while a page that it needs is on its way from a device (MM-11). Errors: its own."""
        while True:
            try:
                step()
            except FaultRetry as late:
                self._wait(_until(late))
            else:
                return

    def writable(self, addr: int) -> bool:
        """Return whether the task may write at `addr`."""
        vma = self.mm.space.find_vma(addr)
        return addr >= KERNEL or (vma is not None and "w" in vma.prot)

    def _of(self, buf: int) -> list[tuple[int, str]]:
        """Return (address, kind) of the buffer that holds `buf`, if it is of a kind that came by `kinds`."""
        vma = self.mm.space.find_vma(buf)
        start = vma.start if vma else max((addr for addr in self.vmap if addr <= buf), default=0)
        return [(start, self._kind_at[start])] if start in self._kind_at else []


def _until(late: FaultRetry) -> Generator[Wait, Any, int]:
    yield from late.wait()
    return 0
