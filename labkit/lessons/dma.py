"""The questions of notebook 09, and the last ones of 06: how a device finds the memory."""

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from labkit.lessons import quiz
from labkit.lessons.quiz import Exercise, Question
from labkit.machine import Machine
from labkit.trace.events import DmaMap, DmaUnmap, IotlbFlush
from labkit.trace.trace import Trace
from labkit.units import human_bytes

RESULTS = ("works", "EFAULT", "EINVAL", "EIO", "EREMOTEIO")
WAYS = ("bus", "phys", "refused")
_MS = 1_000_000


def read(**knobs: Any) -> Trace:
    """Return the trace of a read into pages that lie apart, on a machine of `knobs`, until nothing is to come any more.

    What a lazy IOMMU has left to flush is flushed then.
    """
    asked: dict[str, Any] = {"fragmentation": 1, "ram": "256 MiB", "size": "64 KiB", "seed": 7} | knobs
    machine = Machine(**asked)
    machine.run()
    machine.clock.run()
    return machine.trace


def ranges(trace: Trace) -> int:
    """Return how many device ranges the memory of all requests became."""
    return sum(len(rec.dma) for rec in trace.of(DmaMap))


def window(trace: Trace) -> int:
    """Return for how many ms the device could reach memory after its unmap, at most; 0 where it could not."""
    flushes = [rec.t for rec in trace.of(IotlbFlush)]
    ends = [next((t for t in flushes if t >= rec.t), rec.t) - rec.t for rec in trace.of(DmaUnmap) if rec.stale]
    return round(max(ends, default=0) / _MS)


def kept(trace: Trace) -> int:
    """Return the bytes that drivers kept to be able to unmap."""
    return sum(rec.descriptor_bytes for rec in trace.of(DmaMap))


def copied(trace: Trace) -> int:
    """Return the KiB that a CPU copied to and from bounce buffers."""
    return trace.meters().bounced_bytes >> 10


def said(report: Mapping[str, Any]) -> str:
    """Return what came of a run in a word: works, or the name of the errno."""
    error = report["error"]
    return "works" if error is None else str(error).rpartition("(-")[2].rstrip(")")


def way(trace: Trace) -> str:
    """Return how the memory of a peer was mapped: by its bus addresses, as physical memory, or not at all."""
    hows = [rec.how for rec in trace.of(DmaMap)]
    return "refused" if not hows else "bus" if hows[0] == "bus" else "phys"


ADDRESSES = Question(
    "16 pages that lie apart, and no IOMMU: how many device ranges?",
    ranges,
    "Without an IOMMU nobody can make them look as one: each is what it is (DMA-2).",
)
RANGES = Question(
    "1 MiB of such pages, 256 of them, and an IOMMU: how many device ranges?",
    ranges,
    "An IOMMU makes one range of any pages; but a request behind it is kept to 128 KiB, its cheap size (DMA-4).",
)
WINDOW = Question(
    "Linux 6.18, a lazy IOMMU: for how many milliseconds can the drive reach the buffer after its unmap?",
    window,
    "Unmaps share one flush of the IOTLB, when 256 have come together, or after 10 ms (IOVA-7).",
)
SYNCED = Question(
    "Linux 7.3, the same read, lazy as before: for how many milliseconds now?",
    window,
    "A whole request is destroyed in one go, and that waits for the IOTLB, lazy or not (BLKDMA-5).",
)
KEPT = Question(
    "Linux 6.12 with pages: how many bytes does the driver keep, to unmap 16 pages that lie apart?",
    kept,
    "A scatterlist has 32 bytes for each segment (SG-1); one device range would be 16 bytes in all.",
)
COPIED = Question(
    "The drive has 32 address bits, and the buffer lies above 4 GiB. It reads 64 KiB: how many KiB does a CPU copy?",
    copied,
    "Out of the buffer into the bounce, though it is a read, and back: nobody knows how much the drive will write "
    "(SWI-3).",
)
ROUTE_SWITCH = Question(
    "Drive and GPU are below one switch: is the drive given bus addresses, physical ones, or is it refused?",
    way,
    "The switch knows its ports' addresses, and the request never comes to the root (P2P-2).",
    WAYS,
)
ROUTE_NONE = Question(
    "Each is on a root port of its own, of a host bridge that nobody has listed: which errno?",
    said,
    "Nobody knows whether that bridge would pass the request on, so it is not tried (P2P-2, P2P-3).",
    RESULTS,
)
TODAY = Question(
    "The same machine, the best of routes, and pages: which errno?",
    said,
    "It does not come so far: a mapping without struct pages is refused when it is to be pinned (MISS-3).",
    RESULTS,
)
MASK = Question(
    "The drive has 32 address bits, and the GPU's memory is above 4 GiB: which errno?",
    said,
    "The CPU cannot copy for it as it would from RAM: device memory is never bounced (SWI-4).",
    RESULTS,
)


def endless(seed: int) -> Iterator[Exercise]:
    """Yield exercises on DMA without end; the same seed gives the same series."""
    return quiz.endless(seed, (_ask_ranges, _ask_window, _ask_kept, _ask_copied, _ask_route))


def _ask_ranges(rng: Random) -> Exercise:
    dma, nbytes = rng.choice(("direct", "iommu")), rng.choice((32, 64, 128, 256, 512)) << 10
    trace = read(dma=dma, size=nbytes)
    how = "without an IOMMU" if dma == "direct" else "with an IOMMU"
    text = f"A read of {human_bytes(nbytes)} into pages that lie apart, {how}. How many device ranges?"
    return Exercise(text, ranges(trace), "One a page, or one a request of at most 128 KiB (DMA-2, DMA-4).")


def _ask_window(rng: Random) -> Exercise:
    kernel, iommu = rng.choice(("6.18", "7.3")), rng.choice(("lazy", "strict"))
    nbytes = rng.choice((4, 64)) << 10
    trace = read(kernel=kernel, iommu=iommu, size=nbytes)
    text = (
        f"Linux {kernel}, IOMMU {iommu}, a read of {human_bytes(nbytes)} into "
        f"{'one page' if nbytes == 1 << 12 else '16 pages that lie apart'}. "
        "For how many ms can the drive reach the memory after its unmap?"
    )
    return Exercise(text, window(trace), "Strict never; lazy until the flush, unless a whole range is destroyed.")


def _ask_kept(rng: Random) -> Exercise:
    system, kernel = rng.choice((("page", "6.12"), ("page", "7.3"), ("phyr", "6.12")))
    pages = rng.choice((2, 8, 16, 32))
    trace = read(system=system, kernel=kernel, size=pages << 12)
    text = f"{pages} pages that lie apart, system {system}, Linux {kernel}, IOMMU. Bytes kept for the unmap?"
    return Exercise(text, kept(trace), "32 a segment in a scatterlist (SG-1), or 16 for one range (BLKDMA-3).")


def _ask_copied(rng: Random) -> Exercise:
    op, nbytes = rng.choice(("read", "write")), rng.choice((4, 16, 64)) << 10
    trace = read(dma="swiotlb", op=op, size=nbytes)
    text = f"A {op} of {human_bytes(nbytes)} through bounce buffers. How many KiB does a CPU copy?"
    return Exercise(text, copied(trace), "Into the bounce always, back only where the device may have written (SWI-3).")


def _ask_route(rng: Random) -> Exercise:
    route, acs = rng.choice(("switch", "bridge", "none")), rng.choice((False, True))
    trace = read(folio="gpu", route=route, acs=acs)
    where = {
        "switch": "below the same switch", "bridge": "on a root port of an AMD EPYC",
        "none": "on a root port of a chipset that is not listed",
    }[route]  # fmt: skip
    marks = "its ports send all up to the root (ACS)" if acs else "no port redirects"
    text = f"Drive and GPU are {where}; {marks}. Bus addresses, physical ones (phys), or refused?"
    return Exercise(text, way(trace), "A switch alone keeps it below the root; ACS sends it up (P2P-2).", WAYS)
