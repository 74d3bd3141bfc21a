"""Every kind of memory that an IO may be asked to use: how a task gets it, and what comes of it (data/kinds.toml)."""

import errno
import tomllib
from collections.abc import Callable
from typing import Any, NamedTuple

from labkit.errors import BadInput, LabkitError
from labkit.kernel.mm.backing.filemap import AddressSpace, mmap_file
from labkit.kernel.mm.backing.memfd import GuestMemfd, memfd_create, memfd_secret
from labkit.kernel.mm.backing.memremap import DevicePrivate
from labkit.kernel.mm.fault.anon import ANON_OPS
from labkit.kernel.mm.fault.ksm import merge
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.fault.mmap import do_mmap, do_munmap
from labkit.machine.build import DATA
from labkit.machine.fixed import Fixed
from labkit.machine.plug import Slots
from labkit.task import Task
from labkit.units import MAX_PAGE_ORDER, PAGE_SIZE, PMD_ORDER, PUD_ORDER, UserAddr


class Outcome(NamedTuple):
    """What an IO with a kind of memory comes to: "works" or an errno's name, for a read and for a write.

    `at`: which call says so, mmap or the IO. `why` is how it works, or what helps; `evidence` where it was read.
    """

    read: str
    write: str
    at: str
    why: str
    evidence: str


class Row(NamedTuple):
    """One kind: what it is, the VM_* flags of its mappings, whether it has struct pages, and what comes of it."""

    name: str
    what: str
    vm_flags: str
    struct_pages: bool
    today: Outcome
    phyr: Outcome
    label: str
    """Whose idea the phyr column is: proposed, or ours."""


def table() -> tuple[Row, ...]:
    """Return every kind, in the order of the file: the table of the documentation, and of the tests."""
    told = tomllib.loads((DATA / "kinds.toml").read_text("utf-8"))
    return tuple(_row(name, values) for name, values in told.items())


def _row(name: str, values: dict[str, Any]) -> Row:
    today, phyr = (_outcome(values[column]) for column in ("today", "phyr"))
    return Row(name, values["what"], values["vm_flags"], values["struct_pages"], today, phyr, values["label"])


def _outcome(told: dict[str, str]) -> Outcome:
    both = told.get("result", "")
    return Outcome(
        told.get("read", both), told.get("write", both), told.get("at", "io"), told["why"], told["evidence"]
    )  # fmt: skip


class MachineKinds:
    """The kinds of one machine: its slots, and its registered buffers."""

    def __init__(self, slots: Slots, fixed: Fixed) -> None:
        """Bring memory from `slots`; `fixed` keeps what no IO has to pin."""
        self.slots, self.fixed = slots, fixed

    def get(self, task: Task, kind: str, nbytes: int, prot: str) -> UserAddr:
        """Map `nbytes` of `kind`, rounded up to its pages. Errors: those of the kind."""
        whole = -(-nbytes // PAGE_SIZE) * PAGE_SIZE
        addr = _GET[kind](self, task, whole, prot)
        if kind in _AGED:
            task.age(_AGED[kind], whole)
        return addr

    def settle(self, task: Task, kind: str, addr: int) -> None:
        """Let happen what makes filled memory at `addr` this kind."""
        if kind in _SETTLE:
            _SETTLE[kind](self, task, addr)

    def register(self, task: Task, addr: int, nbytes: int) -> None:
        """Register `nbytes` at `addr` for the IO of a ring (REG-1). Errors: Fixed.register."""
        self.fixed.register(task, addr, nbytes, indexed=True)

    def release(self, task: Task, addr: int) -> None:
        """Give up what holds the buffer that holds `addr` beyond its mapping: it is registered, or the kernel's."""
        self.fixed.release(task, addr)

    def exit(self, task: Task) -> None:
        """Let go of what `task` has mapped beforehand: it ends."""
        self.fixed.exit(task)


def _file(order: int, *, shared: bool = True) -> "_Get":
    def get(kinds: MachineKinds, task: Task, nbytes: int, prot: str) -> UserAddr:
        size = -(-nbytes // (PAGE_SIZE << order)) * (PAGE_SIZE << order)
        file = AddressSpace(kinds.slots.frames, "file" if shared else "file (private)", size, order=order)
        return mmap_file(task.mm, file, size, prot, shared=shared)

    return get


def _memfd(kinds: MachineKinds, task: Task, nbytes: int, prot: str) -> UserAddr:
    return mmap_file(task.mm, memfd_create(kinds.slots.frames, nbytes), nbytes, prot)


def _secretmem(kinds: MachineKinds, task: Task, nbytes: int, prot: str) -> UserAddr:
    return mmap_file(task.mm, memfd_secret(kinds.slots.frames, nbytes), nbytes, prot)


def _guest(*, private: bool) -> "_Get":
    def get(kinds: MachineKinds, task: Task, nbytes: int, prot: str) -> UserAddr:
        return GuestMemfd(kinds.slots.frames, nbytes, private=private).mmap(task.mm, nbytes, prot)

    return get


def _hugetlb(order: int) -> "_Get":
    return lambda kinds, task, nbytes, prot: kinds.slots.pool(order).mmap(task.mm, nbytes, prot)


def _anon(name: str) -> "_Get":
    return lambda _kinds, task, nbytes, prot: do_mmap(task.mm, nbytes, prot, name, ops=ANON_OPS)


def _pagemap(kind: str) -> "_Get":
    return lambda kinds, task, nbytes, prot: kinds.slots.pagemap(kind, nbytes).mmap(task.mm, nbytes, prot)


def _bar(kind: str) -> "_Get":
    return lambda kinds, task, nbytes, prot: kinds.slots.bar(kind, nbytes).mmap(task.mm, nbytes, prot)


def _pfnmap(kind: str, prot: str = "") -> "_Get":
    return lambda kinds, task, nbytes, asked: kinds.slots.pfnmap(kind, nbytes).mmap(task.mm, nbytes, prot or asked)


def _hidden(kinds: MachineKinds, task: Task, nbytes: int, prot: str) -> UserAddr:
    return kinds.slots.hidden(nbytes).mmap(task.mm, nbytes, prot)


def _foreign(kinds: MachineKinds, task: Task, nbytes: int, prot: str) -> UserAddr:
    return kinds.slots.grant(nbytes).mmap(task.mm, nbytes, prot)


def _cxl(kinds: MachineKinds, task: Task, nbytes: int, prot: str) -> UserAddr:
    kinds.slots.cxl(nbytes)
    return do_mmap(task.mm, nbytes, prot, "cxl")


def _registered(kinds: MachineKinds, task: Task, nbytes: int, prot: str) -> UserAddr:
    addr = do_mmap(task.mm, nbytes, prot, "registered")
    task.age(0, nbytes)
    try:
        kinds.fixed.register(task, addr, nbytes)
    except LabkitError:
        do_munmap(task.mm, addr, nbytes)
        raise
    return addr


def _kvec(kinds: MachineKinds, task: Task, nbytes: int, _prot: str) -> UserAddr:
    return kinds.fixed.vmalloc(task, nbytes)


def _merge(kinds: MachineKinds, task: Task, addr: int) -> None:
    """Let a second mapping hold the same bytes, and merge the two page by page; untouched pages are zeros."""
    vma = task.mm.space.find_vma(addr)
    if vma is None:
        raise BadInput("ksm", f"addr={addr:#x}", "is not mapped", errno.EINVAL)
    nbytes = vma.end - vma.start
    handle_mm_fault(task.mm, vma, 0, vma.pages, write="w" in vma.prot)
    twin = do_mmap(task.mm, nbytes, "rw-", "ksm twin")
    task.store(twin, task.load(vma.start, nbytes))
    merge(task.mm, ((vma.start, nbytes), (twin, nbytes)), lambda at, n: kinds.slots.ram.gather(((at, n),)))


def _fork(_kinds: MachineKinds, task: Task, _addr: int) -> None:
    task.fork()


def _to_device(_kinds: MachineKinds, task: Task, addr: int) -> None:
    """Move what was written to the device, from where the next touch has to fetch it."""
    vma = task.mm.space.find_vma(addr)
    if vma is not None and isinstance(vma.ops, DevicePrivate):
        vma.ops.migrate_to_device(task.mm, vma)


_Get = Callable[[MachineKinds, Task, int, str], UserAddr]
_GET: dict[str, _Get] = {
    "hugetlb": _hugetlb(PMD_ORDER), "hugetlb1g": _hugetlb(PUD_ORDER), "file": _file(0),
    "file-private": _file(0, shared=False), "file-4MiB": _file(MAX_PAGE_ORDER), "memfd": _memfd,
    "secretmem": _secretmem, "zero": _anon("zero"), "ksm": _anon("ksm"), "fork-shared": _anon("fork-shared"),
    "fsdax": _pagemap("fsdax"), "devdax": _pagemap("devdax"), "p2pdma": _pagemap("p2pdma"),
    "device-coherent": _pagemap("device-coherent"), "device-private": _pagemap("device-private"), "gpu": _bar("gpu"),
    "vfio": _bar("vfio"), "foreign": _foreign, "guest-memfd": _guest(private=False),
    "guest-memfd-private": _guest(private=True), "hidden": _hidden, "vvar": _pfnmap("vvar", "r--"),
    "pfnmap-ram": _pfnmap("pfnmap-ram"), "cxl": _cxl, "registered": _registered, "kvec": _kvec,
}  # fmt: skip
_AGED = dict.fromkeys(
    ("file", "file-private", "memfd", "secretmem", "zero", "ksm", "fork-shared", "device-private", "guest-memfd"), 0
) | {"file-4MiB": MAX_PAGE_ORDER}
"""Kinds that are made of RAM when they are touched, and the order of their folios: what comes then is aged memory."""
_SETTLE: dict[str, Callable[[MachineKinds, Task, int], None]] = {
    "ksm": _merge, "fork-shared": _fork, "device-private": _to_device,
}  # fmt: skip
