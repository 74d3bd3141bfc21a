"""A zone's size becomes the sizes of its per-cpu lists (BUD-8)."""

from labkit.kernel.mm.page_alloc.free_area import MIGRATE_PCPTYPES, MOVABLE
from labkit.units import PMD_ORDER

PAGE_ALLOC_COSTLY_ORDER = 3
PCP_ORDERS = frozenset((*range(PAGE_ALLOC_COSTLY_ORDER + 1), PMD_ORDER))
"""Orders of which a CPU keeps blocks that were freed lately: those up to 3, and huge pages."""
_BATCH_MOST = 64


def order_to_pindex(order: int, migratetype: int = MOVABLE) -> int:
    """Return the number of the list for `order` and `migratetype`. Those of movable blocks are numbered by order."""
    return order + 16 * ((migratetype - MOVABLE) % MIGRATE_PCPTYPES)


def pindex_to_order(pindex: int) -> tuple[int, int]:
    """Return (order, migratetype) of the list numbered `pindex`."""
    return pindex % 16, (pindex // 16 + MOVABLE) % MIGRATE_PCPTYPES


def zone_batchsize(managed: int) -> int:
    """Return how many frames move between lists and zone at a time: 63 for any zone of 1 GiB or more."""
    batch = max(1, min(managed >> 12, _BATCH_MOST))
    return max(1, (1 << ((batch + batch // 2).bit_length() - 1)) - 1)


def zone_highsize(low_wmark: int, batch: int, cpus: int) -> int:
    """Return how many frames the lists of one CPU may hold: its share of the low watermark, 4 batches at least."""
    return max(low_wmark // cpus, batch << 2)


def nr_pcp_alloc(batch: int, order: int) -> int:
    """Return how many blocks of `order` refill an empty list: a batch of frames, 2 blocks at least."""
    return max(batch >> order, 2) if batch > 1 else 1
