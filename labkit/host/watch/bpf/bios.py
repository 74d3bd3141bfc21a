"""Bios that are queued become records: the program and its maps, for as long as they are held."""

import errno
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadInput, NotAllowed, SyscallError
from labkit.host.watch import btf
from labkit.host.watch.bpf import calls, program
from labkit.host.watch.bpf.assembler import assemble
from labkit.host.watch.bpf.ringbuf import RingBuffer

_MOST = 1 << 30
"""Bytes of a ring at most."""


class Queued(NamedTuple):
    """A bio as it was queued: the figures of program.HEAD by their names, and its vectors as the kernel has them.

    The first vector begins bi_bvec_done bytes late, and the last one may go on behind the bio.
    """

    head: dict[str, Any]
    vecs: NDArray[Any]


class Bios:
    """The bios of some devices, from now on."""

    def __init__(self, kdevs: Sequence[int], nbytes: int) -> None:
        """Let the kernel record them in `nbytes`. Raises NotAllowed; BadInput for no device, or no size of a ring."""
        if not kdevs:
            raise BadInput("bpf", "no device", "leaves nothing to watch", errno.EINVAL)
        for kdev in kdevs:
            if not 0 <= kdev < 1 << 32:
                raise BadInput("bpf", f"kdev={kdev}", "is no number of a device: major << 20 | minor", errno.EINVAL)
        if nbytes % mmap.PAGESIZE or nbytes & (nbytes - 1) or not 0 < nbytes <= _MOST:
            rule = f"is no power of two of whole pages up to {_MOST >> 20} MiB"
            raise BadInput("bpf", f"a ring of {nbytes} bytes", rule, errno.EINVAL)
        self._seen = 0
        self._exit = ExitStack()
        try:
            self._load(kdevs, nbytes)
        except BaseException:
            self.close()
            raise

    def _load(self, kdevs: Sequence[int], nbytes: int) -> None:
        types = btf.vmlinux()
        try:
            text = program.source(kdevs, types)
            self._vec = program.vec(types)
        except BadInput as no:
            rule = "is not as this program knows it: go without what the kernel has in its bios"
            raise NotAllowed("bpf", f"struct bio, where {no.what} {no.rule},", rule, errno.ENODEV) from no
        self._lost = self._kept(calls.map_create(calls.ARRAY, 4, 8, 1))
        self._ring = RingBuffer(nbytes)
        self._exit.callback(self._ring.close)
        code = assemble(text, {"ring": self._ring.fd, "lost": self._lost})
        self._program = self._kept(calls.load(code, "labkit_bios"))
        self._kept(calls.attach(self._program, program.TRACEPOINT))

    def _kept(self, fd: int) -> int:
        """Return `fd`, which is closed at the end."""
        self._exit.callback(os.close, fd)
        return fd

    def take(self) -> Iterator[Queued]:
        """Yield what was queued since, in its order. Raises SyscallError ENOBUFS where some of it was lost."""
        for record in list(self._ring.take()):
            figures = np.frombuffer(record, program.HEAD, 1)[0]
            head = {name: figures[name].item() for name in program.HEAD.names or ()}
            vecs = np.frombuffer(record, self._vec, head["covered"] // self._vec.itemsize, program.HEAD.itemsize)
            yield Queued(head, vecs)
        lost = calls.lookup(self._lost, 0) + calls.recursion_misses(self._program)
        new, self._seen = lost - self._seen, lost
        if new:
            raise SyscallError(
                "bpf", f"{new} bios", "were lost: drain more often, or take a larger ring", errno.ENOBUFS
            )

    def close(self) -> None:
        """Take the program away, and the maps; a second call does nothing."""
        self._exit.close()
