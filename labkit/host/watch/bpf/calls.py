"""bpf(2) as Python calls: maps, programs, and the tracepoint that a program is attached to (uapi/linux/bpf.h).

Every descriptor is closed on exec, and whatever it stands for goes with it: nothing is pinned in a filesystem.
"""

import ctypes
import errno
import os
import platform
import struct
from pathlib import Path

from labkit.errors import NotAllowed, SyscallError
from labkit.host.calls.uring_abi import syscall

ARRAY, RINGBUF = 2, 27
_BPF = {"x86_64": 321, "aarch64": 280}
"""The number of the call by architecture."""
_MAP_CREATE, _MAP_LOOKUP_ELEM, _PROG_LOAD, _OBJ_GET_INFO_BY_FD, _RAW_TRACEPOINT_OPEN = 0, 1, 5, 15, 17
_RAW_TRACEPOINT = 17
_TRIES = 20
"""The verifier gives up with EAGAIN when this thread has something else to do, such as a signal: it is asked again."""
_LICENSE = b"Dual MIT/GPL"
"""bpf_probe_read_kernel is for programs under a licence that the GPL allows. The lab's own, the MIT licence, is one;
of the names that the kernel takes for such (include/linux/license.h) this is the one with MIT in it."""
_INFO = struct.Struct("=208xQ")
"""struct bpf_prog_info up to recursion_misses (Linux 5.12)."""
_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_INSTEAD = "or go without what the kernel has in its bios"


def map_create(kind: int, key: int, value: int, entries: int) -> int:
    """Return the fd of a new map of `entries`, each a key and a value of so many bytes; a ring counts its own bytes."""
    return _bpf(_MAP_CREATE, struct.pack("=5I", kind, key, value, entries, 0), "a map")


def lookup(fd: int, key: int) -> int:
    """Return the value of 64 bits that map `fd` has for `key`, a number of 32 bits."""
    wanted, value = ctypes.c_uint32(key), ctypes.c_uint64()
    attr = struct.pack("=I4xQQQ", fd, ctypes.addressof(wanted), ctypes.addressof(value), 0)
    _bpf(_MAP_LOOKUP_ELEM, attr, "a look into a map")
    return value.value


def load(code: bytes, name: str) -> int:
    """Return the fd of the program `code` for raw tracepoints, which the kernel calls `name` (15 letters at most)."""
    if _LOCKDOWN.exists() and "[confidentiality]" in _LOCKDOWN.read_text():
        rule = f"forbids to read the kernel's memory: boot without lockdown=confidentiality, {_INSTEAD}"
        raise NotAllowed("bpf", str(_LOCKDOWN), rule, errno.EPERM)
    insns, license_ = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(_LICENSE)
    attr = struct.pack(
        "=IIQQIIQII16s", _RAW_TRACEPOINT, len(code) // 8, ctypes.addressof(insns), ctypes.addressof(license_),
        0, 0, 0, 0, 0, name.encode(),
    )  # fmt: skip
    return _bpf(_PROG_LOAD, attr, f"the program {name}")


def attach(program: int, tracepoint: str) -> int:
    """Return an fd for as long as which the program runs at each `tracepoint`."""
    name = ctypes.create_string_buffer(tracepoint.encode())
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("=QI4x", ctypes.addressof(name), program), tracepoint)


def recursion_misses(program: int) -> int:
    """Return how often `program` was not run, because this CPU was in the midst of it; 0 where nobody counts that."""
    info = ctypes.create_string_buffer(_INFO.size)
    attr = struct.pack("=IIQ", program, _INFO.size, ctypes.addressof(info))
    _bpf(_OBJ_GET_INFO_BY_FD, attr, "a look at a program")
    return int(_INFO.unpack(info.raw)[0])


def _bpf(command: int, attr: bytes, what: str) -> int:
    """Return what the kernel says to `command`. Raises NotAllowed, or SyscallError where it lacks room for `what`."""
    call = _BPF.get(platform.machine())
    if call is None:
        rule = f"has no known number for bpf(2): use x86_64 or aarch64, {_INSTEAD}"
        raise NotAllowed("bpf", platform.machine(), rule, errno.ENOSYS)
    words = ctypes.create_string_buffer(attr, len(attr))
    for _ in range(_TRIES):
        said = syscall(call, command, ctypes.addressof(words), len(attr))
        if said >= 0:
            return said
        if (number := ctypes.get_errno()) != errno.EAGAIN:
            break
    if number in {errno.ENOMEM, errno.EMFILE, errno.ENFILE}:
        raise SyscallError("bpf", what, f"does not fit: {os.strerror(number)}", number)
    rule = f"is refused, {os.strerror(number)}: run Linux 5.8 or newer with CONFIG_BPF_EVENTS, {_INSTEAD}"
    if number in {errno.EPERM, errno.EACCES}:
        rule = f"needs CAP_BPF and CAP_PERFMON: run as root, {_INSTEAD}"
    raise NotAllowed("bpf", what, rule, number)
