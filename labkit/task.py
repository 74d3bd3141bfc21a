"""A program on the machine: memory that it maps, and system calls that it waits for."""

import errno
from collections.abc import Callable, Generator, Iterator
from typing import Any

from labkit.errors import BadInput, SyscallError
from labkit.hardware.clock import Wait
from labkit.hardware.ram import RAM
from labkit.kernel.dio import File
from labkit.kernel.mm.fault import Mm
from labkit.kernel.mm.page_table import ADDR_MASK
from labkit.kernel.syscall import Syscalls
from labkit.scatter.payload import Range
from labkit.scenario import FOLIO_ORDER, parse_bytes
from labkit.units import PAGE_SHIFT, PAGE_SIZE, UserAddr


class Task:
    """One process. Its calls return what the kernel would, or raise SyscallError with the kernel's errno."""

    def __init__(
        self, syscalls: Syscalls, mm: Mm, ram: RAM, files: dict[str, File],
        wait: Callable[[Generator[Wait, Any, int]], int], grow_old: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        """Join the parts. `wait` runs a call to its end; `grow_old(order, bytes)` ages the memory that comes next."""
        self.syscalls, self.mm, self._ram, self._files = syscalls, mm, ram, files
        self._wait, self._grow_old = wait, grow_old

    def mmap(self, length: int | str, folio: str = "4 KiB", prot: str = "rw-") -> UserAddr:
        """Map `length` bytes of anonymous memory, in folios of `folio` bytes; return the address."""
        nbytes, order = parse_bytes("mmap", "length", length), FOLIO_ORDER.get(folio.replace(" ", ""))
        if order is None:
            raise BadInput("mmap", f"folio={folio!r}", f"is not one of {', '.join(FOLIO_ORDER)}", errno.EINVAL)
        addr = self.mm.mmap(nbytes, prot, f"anon {folio}", order)
        self._grow_old(order, nbytes)
        return addr

    def munmap(self, addr: int) -> None:
        """Unmap the mapping that begins at `addr`."""
        self.mm.munmap(UserAddr(addr))

    def open(self, path: str, flags: str = "O_RDWR|O_DIRECT") -> int:
        """Open a block device of the machine; return a descriptor."""
        file = self._files.get(path)
        if file is None:
            raise SyscallError("open", repr(path), f"is not there, only {', '.join(self._files)}", errno.ENOENT)
        return self.syscalls.open(file, flags)

    def pread(self, fd: int, buf: int, count: int | str, offset: int | str = 0) -> int:
        """Read `count` bytes at `offset` into user address `buf`; return how many came."""
        nbytes, pos = parse_bytes("pread64", "count", count), parse_bytes("pread64", "offset", offset)
        return self._wait(self.syscalls.rw(fd, buf, nbytes, pos, write=False))

    def pwrite(self, fd: int, buf: int, count: int | str, offset: int | str = 0) -> int:
        """Write `count` bytes from user address `buf` at `offset`; return how many went."""
        nbytes, pos = parse_bytes("pwrite64", "count", count), parse_bytes("pwrite64", "offset", offset)
        return self._wait(self.syscalls.rw(fd, buf, nbytes, pos, write=True))

    def frames(self, addr: int, nbytes: int) -> Iterator[Range]:
        """Yield (physical address, bytes) page by page, each looked up by itself. Raises EFAULT where none is."""
        end = addr + nbytes
        while addr < end:
            vma = self.mm.space.find_vma(addr)
            pte = vma.table.ptes[(addr - vma.start) >> PAGE_SHIFT] if vma else 0
            if not pte:
                raise SyscallError("mm", f"addr={addr:#x}", "is not present", errno.EFAULT)
            take = min(PAGE_SIZE - addr % PAGE_SIZE, end - addr)
            yield (pte & ADDR_MASK) + addr % PAGE_SIZE, take
            addr += take

    def load(self, addr: int, nbytes: int) -> bytes:
        """Return what the task sees at `addr`; untouched memory cannot be seen (EFAULT)."""
        return self._ram.gather(tuple(self.frames(addr, nbytes)))

    def store(self, addr: int, data: bytes) -> None:
        """Write `data` to user address `addr`: untouched pages are faulted in. Raises SyscallError EFAULT, ENOMEM."""
        vma = self.mm.space.find_vma(addr)
        if vma is None or addr + len(data) > vma.end or "w" not in vma.prot:
            raise SyscallError("mm", f"addr={addr:#x}+{len(data)}", "may not be written", errno.EFAULT)
        last = -(-(addr + len(data) - vma.start) // PAGE_SIZE)
        self.mm.handle_mm_fault(vma, (addr - vma.start) >> PAGE_SHIFT, last)
        self._ram.scatter(tuple(self.frames(addr, len(data))), data)
