"""munmap of a registered buffer: the pages stay, and READ_FIXED goes on; no address leads to them any more (REG-1)."""

from collections.abc import Callable

from labkit.host.calls.ring import Entry, Ring
from labkit.host.disk.scratch import Scratch
from labkit.host.memory.frames import frames, mapcounts
from labkit.host.memory.own_pages import OwnPages
from labkit.machine import Machine
from labkit.units import PAGE_SIZE
from labkit.witness.demos.demo import Answers, Demo, Seen, Value, said

_PAGES = 16
_NBYTES = _PAGES * PAGE_SIZE
_BYTES = bytes(range(255, -1, -1)) * (_NBYTES // 256)
_CALLS = (("WRITE from the address", True, None), ("WRITE_FIXED", True, 0), ("READ_FIXED", False, 0))
"""What is asked, whether it writes the file, and of which registered buffer. READ is not asked for by address: other
memory might have come there meanwhile, and would be written over."""
_FILE = "bytes of the file"
_MAPPED = "pages that are mapped"


def kernel() -> Seen:
    """Ask before and after munmap, and look at what reaches the file. Raises NotAllowed, SyscallError.

    With root the pages are looked at, too: the same frames, mapped by nobody.
    """
    with Scratch(_NBYTES) as file, OwnPages(_PAGES) as memory, Ring(1) as ring:
        memory.fill(_BYTES)
        ring.register_memory([(memory.address, _NBYTES)])

        def ask(write: bool, index: int | None) -> int:
            return ring.enter(file.fd, [Entry(write, memory.address, _NBYTES, 0, index)])()[0]

        pfns = frames(memory.address, _PAGES).pfns
        sides: list[Answers] = []
        for when in ("before", "after"):
            if when == "after":
                memory.close()
            file.fill(bytes(_NBYTES))
            side = _asked(ask, lambda: file.peek(_NBYTES))
            sides.append(side | ({} if pfns is None else {_MAPPED: sum(map(bool, mapcounts(pfns)))}))
    before, after = sides
    rows: list[list[Value]] = [[what, before[what], after[what]] for what in after]
    return Seen({f"{what}, after munmap": after[what] for what in after}, ("asked", "before munmap", "after it"), rows)


def model() -> Answers:
    """Return the same of the simulated machine, after munmap."""
    machine = Machine(ram="64 MiB", system="page")
    task = machine.task()
    buf, fd, ring = task.mmap(_NBYTES), task.open("/dev/nvme0n1"), task.io_uring()
    task.store(buf, _BYTES)
    ring.register_buffers([(buf, _NBYTES)])
    task.munmap(buf)

    def ask(write: bool, index: int | None) -> int:
        (ring.write if write else ring.read)(fd, buf, _NBYTES, buf_index=index)
        return ring.submit()[0].res

    asked = _asked(ask, lambda: machine.volume.peek("/dev/nvme0n1", 0, _NBYTES))
    return {f"{what}, after munmap": answer for what, answer in asked.items()}


def _asked(ask: Callable[[bool, int | None], int], peek: Callable[[], bytes]) -> Answers:
    """Return what each of _CALLS says, and whose bytes the file has after that."""
    answers = {what: said(ask(write, index)) for what, write, index in _CALLS}
    return answers | {_FILE: "those of the buffer" if peek() == _BYTES else "those before"}


DEMO = Demo(
    "munmap-registered",
    "munmap while a buffer is registered",
    "A program registers 64 KiB, and unmaps them: what do WRITE from the old address, WRITE_FIXED and READ_FIXED say?",
    "Maps 64 KiB, registers and unmaps them; writes to a temporary file of the lab's own. The registration, and with "
    "it the pages, ends with the ring.",
    "Pins keep pages, not mappings: whoever holds physical ranges needs no address of anybody's.",
    kernel,
    model,
)
