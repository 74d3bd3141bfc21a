"""What is paid once for a buffer that is registered, and what is kept for it: counted apart from its IOs."""

from collections import Counter
from collections.abc import Iterable

from labkit.trace.events import DmaMap, DmaUnmap, GupPin, GupUnpin, Record

REGISTRATION = (
    "atomics", "struct_pages", "maps", "ioptes", "descriptor_bytes", "iotlb_syncs", "pinned_bytes", "mapped_bytes",
)  # fmt: skip
"""Its meters. `pinned_bytes` of memory stay pinned, and `mapped_bytes` of device addresses taken, until its end."""


def is_registration(rec: Record) -> bool:
    """Return whether `rec` is of a buffer that is registered: a pin of no IO, a mapping of no request (REG-1)."""
    match rec:
        case GupPin() | GupUnpin():
            return not rec.io
        case DmaMap() | DmaUnmap():
            return rec.rq < 0
    return False


def registration(records: Iterable[Record]) -> dict[str, int]:
    """Return the meters of all that `records` register; 0 where nothing was."""
    sums: Counter[str] = Counter()
    for rec in filter(is_registration, records):
        match rec:
            case GupPin():
                sums.update(_counts(rec, "atomics", "struct_pages", "descriptor_bytes"))
                sums["pinned_bytes"] += sum(nbytes for _, nbytes in rec.ranges)
            case GupUnpin():
                sums.update(_counts(rec, "atomics", "struct_pages"))
            case DmaMap():
                sums.update(_counts(rec, "maps", "ioptes", "descriptor_bytes"))
                sums["mapped_bytes"] += sum(nbytes for _, nbytes in rec.dma)
            case DmaUnmap():
                sums["iotlb_syncs"] += rec.syncs
    return {name: sums[name] for name in REGISTRATION}


def _counts(rec: Record, *names: str) -> dict[str, int]:
    return {name: getattr(rec, name) for name in names}
