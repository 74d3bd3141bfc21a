"""A call by addresses: pread and its kin on memory of this process, wherever it is, as a program in C would ask."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from labkit.scatter.payload import Range

_libc: Any = ctypes.CDLL(None, use_errno=True)
_SIZE, _LONG = ctypes.c_size_t, ctypes.c_long
for _name, _types in (
    ("pread", (ctypes.c_int, ctypes.c_void_p, _SIZE, _LONG)),
    ("pwrite", (ctypes.c_int, ctypes.c_void_p, _SIZE, _LONG)),
    ("preadv", (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, _LONG)),
    ("pwritev", (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, _LONG)),
):
    getattr(_libc, _name).argtypes = _types
    getattr(_libc, _name).restype = ctypes.c_ssize_t


def call(name: str, fd: int, iov: Sequence[Range], pos: int) -> Callable[[], int]:
    """Return what does one `name` (pread, pwrite, preadv, pwritev) of file `fd` at byte `pos`, each time it is called.

    `iov`: (user address, bytes) of each piece; of pread and pwrite the first one counts. All is made ready before, so
    that nothing else is measured. What it does returns the bytes, or a negative errno: a bad address is EFAULT.
    """
    function, args = getattr(_libc, name), tuple[Any, ...]()
    if name.endswith("v"):
        words = [word for piece in iov for word in piece]
        args = (fd, (ctypes.c_uint64 * len(words))(*words), len(iov), pos)
    else:
        args = (fd, *iov[0], pos)

    def do() -> int:
        done = int(function(*args))
        return done if done >= 0 else -ctypes.get_errno()

    return do
