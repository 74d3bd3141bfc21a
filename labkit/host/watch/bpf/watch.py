"""What the kernel put into a bio becomes a row: the physical addresses of its vectors, read from the bio itself."""

import errno
import os
import threading
from functools import cache
from types import TracebackType
from typing import Any, Self

import numpy as np

from labkit.errors import NotAllowed, SyscallError
from labkit.host.disk.loopdev import LoopDevice
from labkit.host.memory import pagemap
from labkit.host.memory.arena import arena
from labkit.host.watch import btf
from labkit.host.watch.bpf.bios import Bios
from labkit.host.watch.bpf.program import MOST_VECS
from labkit.units import PAGE_SIZE

_RING_BYTES = 4 << 20
"""Room for a thousand bios, each with as many vectors as there can be."""
_NO_DATA = {3, 5, 9}
"""DISCARD, SECURE_ERASE, WRITE_ZEROES: bytes of the device, and none of memory (enum req_op)."""
_OP, _PID = 0xFF, 0xFFFFFFFF
_PAGES, _TRIES = 16, 3


class BioWatch:
    """Every bio that is queued for some devices, with its vectors. A context manager, for one thread at a time."""

    def __init__(self, *kdevs: int, ring_bytes: int = _RING_BYTES) -> None:
        """Watch the devices `kdevs` (major << 20 | minor) from now on.

        Raises NotAllowed without root or CAP_BPF, BTF, a loop device, or under lockdown; BadInput for no device.
        """
        self._bios = Bios(kdevs, ring_bytes)
        try:
            self._vmemmap, self._page = vmemmap(), btf.vmlinux().size("page")
        except BaseException:
            self.close()
            raise

    def drain(self) -> list[dict[str, Any]]:
        """Return what was queued since, in its order, as `bios` of a capture has it.

        `event` is queue; `sector` is in 512 bytes, `bvecs` are [physical address, bytes], 256 at most, `t` is ns of
        CLOCK_MONOTONIC, `pid` that of the thread. Raises SyscallError: ENOBUFS where bios were lost, EFAULT where the
        vectors of one could not be read.
        """
        return [self._row(*queued) for queued in self._bios.take()]

    def close(self) -> None:
        """Watch no more, and leave nothing in the kernel; a second call does nothing."""
        self._bios.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _row(self, head: dict[str, Any], vecs: Any) -> dict[str, Any]:
        """Return one bio."""
        bvecs = [] if head["bi_opf"] & _OP in _NO_DATA else self._bvecs(head, vecs)
        return {
            "event": "queue", "t": head["ktime"], "sector": head["bi_sector"], "bytes": head["bi_size"],
            "opf": head["bi_opf"], "vcnt": head["bi_vcnt"], "max_vecs": head["bi_max_vecs"],
            "comm": head["comm"].decode(errors="replace"), "bvecs": bvecs,
            "bvecs_truncated": bool(bvecs) and head["left"] > 0,
            "kdev": head["bd_dev"], "pid": head["pid_tgid"] & _PID,
        }  # fmt: skip

    def _bvecs(self, head: dict[str, Any], vecs: Any) -> list[list[int]]:
        """Return what lies between the ends of the bio: [physical address, bytes], ..."""
        if head["left"] and len(vecs) < MOST_VECS:
            what = f"a bio at sector {head['bi_sector']}"
            raise SyscallError("bpf", what, f"has a vector {len(vecs)} that cannot be read", errno.EFAULT)
        starts = (vecs["bv_page"] - self._vmemmap) // self._page * PAGE_SIZE + vecs["bv_offset"]
        bvecs = [list(pair) for pair in zip(starts.tolist(), vecs["bv_len"].tolist(), strict=True)]
        if bvecs:
            bvecs[0][0] += head["bi_bvec_done"]
            bvecs[0][1] -= head["bi_bvec_done"]
            over = sum(nbytes for _, nbytes in bvecs) - head["bi_size"]
            bvecs[-1][1] -= max(0, over)
        return bvecs


@cache
def vmemmap() -> int:
    """Return the kernel address of the struct page of frame 0, where those of all frames are one array.

    It is measured: into pages whose frames the pagemap tells a loop device of the lab's own is read, and the bios say
    where their struct pages are. Raises NotAllowed, also where there are several arrays (no SPARSEMEM_VMEMMAP).
    """
    size = btf.vmlinux().size("page")
    with LoopDevice.attach(PAGE_SIZE) as device:
        number = os.fstat(device.fileno()).st_rdev
        kdev = os.major(number) << 20 | os.minor(number)
        for _ in range(_TRIES):  # a page may be moved meanwhile
            found = {page - frame * size for page, frame in _pages(device, kdev)}
            if len(found) == 1:
                return found.pop()
    rule = "are in no one array: run a kernel with CONFIG_SPARSEMEM_VMEMMAP, or go without the bios' vectors"
    raise NotAllowed("bpf", "struct pages", rule, errno.ENODEV)


def _pages(device: LoopDevice, kdev: int) -> list[tuple[int, int]]:
    """Return the address of its struct page, and the frame, of each of some pages that are read from `device`."""
    buffer, mine = arena(_PAGES * PAGE_SIZE), threading.get_native_id()
    address = int(np.frombuffer(buffer, np.uint8).ctypes.data)
    bios = Bios((kdev,), 1 << 20)
    try:
        for at in range(0, len(buffer), PAGE_SIZE):
            device.preadv([buffer[at : at + PAGE_SIZE]], 0)
        # Others look at every new device, too.
        read = [int(bio.vecs["bv_page"][0]) for bio in bios.take() if bio.head["pid_tgid"] & _PID == mine]
    finally:
        bios.close()
    frames = (pagemap.rows(address + at, PAGE_SIZE)[0][1] for at in range(0, len(buffer), PAGE_SIZE))
    return list(zip(read, frames, strict=True))
