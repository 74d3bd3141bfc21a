"""Direct IO of a loop device carries the user's own frames down to the disk below it: nothing is copied (LOOP-3)."""

import errno
from collections.abc import Iterable

from labkit.errors import NotAllowed, SyscallError
from labkit.host.disk import below
from labkit.host.disk.loopdev import LoopDevice
from labkit.host.memory.frames import frames, moved
from labkit.host.memory.own_pages import OwnPages
from labkit.host.watch.bpf import BioWatch
from labkit.units import PAGE_SHIFT, PAGE_SIZE
from labkit.witness.demos.demo import Demo, Seen, Value

_PAGES, _TRIES = 64, 8
_NBYTES = _PAGES * PAGE_SIZE
_WAYS = {"direct-io=1": True, "direct-io=0": False}


def kernel() -> Seen:
    """Read through a loop device with direct backing IO and without, and look into the bios.

    Raises NotAllowed, SyscallError.
    """
    with LoopDevice.attach(_NBYTES) as device, OwnPages(_PAGES) as memory:
        devices = {"the loop device": below.kdev(device), "the disk below": below.kdev_below(device)}
        device.poke(0, bytes(range(256)) * (_NBYTES >> 8))
        with BioWatch(*devices.values()) as watch:
            rows: list[list[Value]] = []
            for way, on in _WAYS.items():
                below.set_direct_io(device, on)
                found = _carried(device, memory, watch)
                rows += [[way, name, _NBYTES, found.get(number, 0)] for name, number in devices.items()]
    answers = {f"{way}: bytes of the buffer's frames in bios of {name}": own for way, name, _, own in rows}
    return Seen(answers, ("backing IO", "bios of", "bytes read", "of them into the buffer's own frames"), rows)


def _carried(device: LoopDevice, memory: OwnPages, watch: BioWatch) -> dict[int, int]:
    """Read all into `memory`; return how many bytes of its frames were in the bios of each device.

    Again, where the kernel moves a frame meanwhile, or others do more IO below than could be looked at.
    """
    for _ in range(_TRIES):
        try:
            found = _read(device, memory, watch)
        except SyscallError as no:
            if no.layer != "bpf":
                raise
            continue
        if found is not None:
            return found
    rule = "is too busy to be looked at: let other IO and compaction end, and try again"
    raise NotAllowed("bpf", "the disk below", rule, errno.EAGAIN)


def _read(device: LoopDevice, memory: OwnPages, watch: BioWatch) -> dict[int, int] | None:
    """Read once; return None where frames moved. Raises NotAllowed without frames, SyscallError where bios are lost."""
    before = frames(memory.address, _PAGES)
    watch.drain()
    with memory.view(_NBYTES) as view:
        device.preadv([view], 0)
    rows, after = watch.drain(), frames(memory.address, _PAGES)
    if moved(before, after).any() or before.pfns is None:
        return None
    mine, found = set(before.pfns.tolist()), dict[int, int]()
    for row in rows:
        found[row["kdev"]] = found.get(row["kdev"], 0) + _within(mine, row["bvecs"])
    return found


def _within(frames: set[int], bvecs: Iterable[tuple[int, int]]) -> int:
    """Return how many bytes of `bvecs` (physical address, bytes) lie in `frames`."""
    return sum(
        min(addr + nbytes, (pfn + 1) << PAGE_SHIFT) - max(addr, pfn << PAGE_SHIFT)
        for addr, nbytes in bvecs
        for pfn in range(addr >> PAGE_SHIFT, (addr + nbytes - 1 >> PAGE_SHIFT) + 1)
        if pfn in frames
    )


DEMO = Demo(
    "frames-through-loop",
    "The same frames, two devices deep",
    "A program reads 256 KiB with O_DIRECT from a loop device: whose memory does the disk below it write to?",
    "Attaches a loop device of the lab's own over a file of its own, and switches that device's backing IO; both go at "
    "the end. A BPF program of the lab's own looks at bios, and goes with its descriptor.",
    "Ranges can go through a stack of devices as they are: each layer slices, none looks into a page.",
    kernel,
)
