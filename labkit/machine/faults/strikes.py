"""How each kind of fault begins.

A strike is called with the record that it waits for, and returns in one sentence what it did; None where that cannot
be yet: it is called again then, with every record of the IO. What only marks the device sick does so at once, so that
whatever comes next in the same instant meets it; what changes more is done when the step that told of it is over.
"""

import errno
from collections.abc import Callable

from labkit.errors import SyscallError
from labkit.kernel.dma.direct import DirectMap
from labkit.kernel.dma.iommu import IommuMap
from labkit.kernel.dma.xen import XenMap
from labkit.kernel.mm.backing.remap_pfn import PfnMapping
from labkit.machine.faults.plant import Met, Plant
from labkit.machine.run import path_of, pattern
from labkit.scatter.payload import Range
from labkit.units import SECTOR_SHIFT, SECTOR_SIZE, PhysAddr

REFUSALS = 3
"""Commands for which the queue of a device is full, of queue-full; ours."""
Strike = Callable[[Plant, Met], str | None]


def media_error(plant: Plant, met: Met) -> str | None:
    """Let the medium be unable to read or write one sector: in the middle of the IO, or of its first request."""
    sc = plant.scenario
    if sc.fs == "raw" and sc.stack == "none" and sc.direct:
        sector = (sc.offset + sc.size // 2) >> SECTOR_SHIFT
    elif met.sectors is None:
        return None
    else:
        sector = met.sectors[0] + met.sectors[1] // 2
    plant.device.health.bad.append((sector, sector + 1))
    return f"sector {sector} cannot be read or written any more"


def timeout(plant: Plant, _met: Met) -> str:
    """Let the device never answer the next command that it takes."""
    plant.device.health.stuck += 1
    return "the next command is taken, and never answered"


def lost_interrupt(plant: Plant, _met: Met) -> str:
    """Let the device complete a command, and nobody hear of it."""
    plant.device.health.losing += 1
    return "the next interrupt gets lost"


def short_transfer(plant: Plant, _met: Met) -> str:
    """Let a transfer stop halfway."""
    plant.device.health.short += 1
    return "the next transfer stops halfway"


def queue_full(plant: Plant, _met: Met) -> str:
    """Let the device's own queue be full for a while."""
    plant.device.health.refusing += REFUSALS
    return f"the device's queue has no room, {REFUSALS} times"


def wedged(plant: Plant, _met: Met) -> str:
    """Let the device answer nothing any more."""
    plant.device.health.wedged = True
    return "the device answers nothing any more, aborts and resets included"


def unplug(plant: Plant, _met: Met) -> str:
    """Pull the device out: its registers read as ones, and its queue is dead (BLK-5)."""
    plant.device.health.gone = True
    plant.queue.mark_dead()
    return "the device is pulled out"


def torn_write(plant: Plant, met: Met) -> str:
    """Lose the power of the device: some sectors of what is not durable are as they were before."""
    unplug(plant, met)
    lost = plant.medium.power_cut(plant.scenario.seed) if plant.medium is not None else []
    new, old = sectors_written(plant)
    met.disturbed = bool(lost)
    return f"the power is lost: of the sectors of the IO {new} are new, and {old} are old"


def revoke(plant: Plant, _met: Met) -> str:
    """Let nothing answer any more where the memory of the device was (D-13)."""
    for name, device in plant.slots.plugged.items():
        if isinstance(device, PfnMapping) and device.kind == "gpu":
            start, nbytes = device.runs[0][0], device.nbytes
            device.revoke()
            plant.tracer.emit(("MemunmapPages", plant.clock.now, 0, name, start, nbytes))
            del plant.slots.plugged[name]
            plant.ram.revoke(start)
            plant.frames.buddy.memblock.remove(PhysAddr(start))
            return f"{name} takes its memory back, {nbytes} bytes at {start:#x}"
    raise SyscallError("fault", "revoke", "finds no device whose memory it is (D-13)", errno.ENODEV)


def iommu_fault(plant: Plant, met: Met) -> str | None:
    """Tear the IO's mapping out of the IOMMU behind the driver's back: the device meets it at its next access."""
    if not met.mapped or not isinstance(plant.dma, IommuMap):
        return None
    ranges: list[Range] = [piece for dma in met.mapped.values() for piece in dma]
    for iova, nbytes in ranges:
        plant.dma.iommu.protect(iova, nbytes, 0)
    return f"{len(ranges)} device ranges from {ranges[0][0]:#x} on lead nowhere any more"


def iova_exhausted(plant: Plant, _met: Met) -> str:
    """Let the address space of the device be used up, for good."""
    if isinstance(plant.dma, IommuMap):
        plant.dma.iovas.exhaust()
    return "no device address is free any more"


def swiotlb_full(plant: Plant, _met: Met) -> str:
    """Let every bounce buffer be taken, for good: what is given back can be had again."""
    if isinstance(plant.dma, (DirectMap, XenMap)) and plant.dma.swiotlb is not None:
        plant.dma.swiotlb.fill()
    return "no bounce buffer is free any more"


def sectors_written(plant: Plant) -> tuple[int, int]:
    """Return how many sectors of the IO the medium has as they were to be written, and how many not."""
    sc, path = plant.scenario, path_of(plant.scenario, plant.volume)
    size = plant.volume.size(path)
    same = [
        plant.volume.peek(path, sc.offset + at + i, SECTOR_SIZE) == chunk[i : i + SECTOR_SIZE]
        for at, chunk in pattern(sc, 0)
        for i in range(0, min(len(chunk), size - sc.offset - at), SECTOR_SIZE)
    ]
    return sum(same), len(same) - sum(same)


STRIKES: dict[str, Strike] = {
    "media-error": media_error, "timeout": timeout, "lost-interrupt": lost_interrupt, "short-transfer": short_transfer,
    "queue-full": queue_full, "wedged": wedged, "unplug": unplug, "iommu-fault": iommu_fault,
    "iova-exhausted": iova_exhausted, "swiotlb-full": swiotlb_full, "torn-write": torn_write, "revoke": revoke,
}  # fmt: skip
"""Every kind of fault, by the name that a scenario has for it."""
AFTERWARDS = frozenset({"torn-write", "revoke"})
"""What is done when the step that tells of the record is over, in the same instant."""
