"""Memory of this process becomes the source of a write: what the kernel says, with O_DIRECT and without.

The data page that the vDSO reads the time from, [vvar], is mapped into every program by frame number, as a driver maps
the memory of a device (VM_PFNMAP): no struct page is to be found by it, up to Linux 6.18. So everybody can ask, without
root. The file is one of the lab's own, in the directory for temporary files; it has no name where the filesystem can do
that (O_TMPFILE), and is gone with the last line of the function in any case.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from labkit.errors import NotAllowed, errno_name
from labkit.host.disk.scratch import REMEDY, temporary

NBYTES = 4096
"""Bytes of a write: a multiple of every logical block that is about, and no more than a page of any kernel."""
_MEMFD_SECRET = 447


class Said(NamedTuple):
    """What the kernel said to a write of NBYTES from memory of `kind`: bytes, or the name of an errno."""

    kind: str
    direct: int | str
    buffered: int | str


def ask() -> tuple[Said, ...]:
    """Ask the kernel about each kind of memory that an ordinary program can have; secret memory where it has any.

    Raises NotAllowed where there is no [vvar], and where the filesystem of temporary files does no O_DIRECT.
    """
    with temporary() as file, _memory() as found:
        _check_direct(file, found["4KiB"])
        return tuple(Said(kind, _direct(file, addr), _pwrite(file, addr, NBYTES)) for kind, addr in found.items())


@contextmanager
def _memory() -> Iterator[dict[str, int]]:
    """Yield the address of a page of each kind, by the names that the machine has for them (data/kinds.toml)."""
    with ExitStack() as stack:
        anon = stack.enter_context(mmap.mmap(-1, 2 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        anon[:] = b"x" * len(anon)
        untouched = stack.enter_context(mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        maps = {"4KiB": anon, "zero": untouched, "memfd": stack.enter_context(_shared(os.memfd_create("labkit")))}
        if (secret := _memfd_secret()) is not None:
            maps["secretmem"] = stack.enter_context(_shared(secret))
        yield {kind: _address(memory) for kind, memory in maps.items()} | {"vvar": _vvar()}


def _shared(fd: int) -> mmap.mmap:
    """Return a page of the file `fd`, which the mapping keeps."""
    try:
        os.ftruncate(fd, mmap.PAGESIZE)
        return mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)


def _memfd_secret() -> int | None:
    """Return a file of memory that the kernel itself does not map; None where there is none (secretmem.enable=0)."""
    fd = ctypes.CDLL(None).syscall(ctypes.c_long(_MEMFD_SECRET), ctypes.c_uint(0))
    return int(fd) if fd >= 0 else None


def _address(memory: mmap.mmap) -> int:
    first = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(first)
    del first  # a mapping cannot be closed while it is exported
    return address


def _vvar() -> int:
    """Return the address of [vvar]. Raises NotAllowed where the process has none."""
    found = re.search(r"^([0-9a-f]+)-.*\[vvar\]$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    if found is None:
        raise NotAllowed("vvar", "/proc/self/maps", "shows no [vvar]: ask a Linux kernel that has a vDSO", errno.ENODEV)
    return int(found[1], 16)


def _check_direct(file: IO[bytes], addr: int) -> None:
    """Raise NotAllowed unless `file` does O_DIRECT, and does not buffer it in secret: 1 byte more must be EINVAL."""
    for nbytes, wanted in ((NBYTES, NBYTES), (NBYTES + 1, "-EINVAL")):
        said = _direct(file, addr, nbytes)
        if said != wanted:
            rule = f"answers {said} to an O_DIRECT write of {nbytes} bytes: {REMEDY}"
            raise NotAllowed("vvar", tempfile.gettempdir(), rule, errno.EOPNOTSUPP)


def _direct(file: IO[bytes], addr: int, nbytes: int = NBYTES) -> int | str:
    """Write with O_DIRECT. Raises NotAllowed where the filesystem has none."""
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_DIRECT)
    except OSError as no:
        raise NotAllowed("vvar", tempfile.gettempdir(), f"does no O_DIRECT: {REMEDY}", no.errno or errno.EINVAL) from no
    try:
        return _pwrite(file, addr, nbytes)
    finally:
        fcntl.fcntl(file, fcntl.F_SETFL, flags)


def _pwrite(file: IO[bytes], addr: int, nbytes: int) -> int | str:
    """Write `nbytes` from user address `addr` to the beginning of `file`; return them, or the errno's name."""
    pwrite: Any = ctypes.CDLL(None, use_errno=True).pwrite
    pwrite.restype = ctypes.c_ssize_t
    done = pwrite(file.fileno(), ctypes.c_void_p(addr), ctypes.c_size_t(nbytes), ctypes.c_long(0))
    return int(done) if done >= 0 else errno_name(ctypes.get_errno())
