"""Free blocks by order and migratetype: split, joined with their buddies, borrowed between types (BUD-2..7)."""

from collections import OrderedDict

from labkit.kernel.mm.page_alloc.memmap import FreeMap
from labkit.units import MAX_PAGE_ORDER, PMD_ORDER

UNMOVABLE, MOVABLE, RECLAIMABLE, HIGHATOMIC, CMA, ISOLATE = range(6)
"""What may become of the pages of a pageblock, in the kernel's order (BUD-7)."""
MIGRATE_NAMES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")
MIGRATE_PCPTYPES = 3
"""The first three are those that a CPU keeps lists of, and whose blocks may join."""
PAGEBLOCK_ORDER = PMD_ORDER

_FALLBACKS = ((RECLAIMABLE, MOVABLE), (RECLAIMABLE, UNMOVABLE), (UNMOVABLE, MOVABLE))
_MAX_BLOCK = 1 << MAX_PAGE_ORDER
_PAGEBLOCK = 1 << PAGEBLOCK_ORDER

Found = tuple[int, int]
"""(first frame, order) of a block that has left its list."""


class FreeArea:
    """Frames [start, end): lists of free blocks, and an untouched tail from `virgin` on, kept as one number.

    A list is an ordered dict: its end is the head that BUD-4 speaks of, and a buddy is found in one look-up. A free
    block below a pageblock in size stands in the list of its pageblock's type. The tail is movable, and costs nothing
    however large it is.
    """

    def __init__(self, start: int, end: int) -> None:
        """Take frames [start, end), both multiples of 1024."""
        self.start, self.end, self.virgin = start, end, start
        self.free_area: list[list[OrderedDict[int, None]]] = [
            [OrderedDict() for _ in MIGRATE_NAMES] for _ in range(MAX_PAGE_ORDER + 1)
        ]
        self.pageblocks: dict[int, int] = {}
        """Type by frame number over 512, of pageblocks that are not MOVABLE as boot made them."""
        self.listed = 0
        """Frames in lists."""
        self.map = FreeMap()

    def pageblock_type(self, pfn: int) -> int:
        """Return the migratetype of the pageblock that holds `pfn`."""
        return self.pageblocks.get(pfn >> PAGEBLOCK_ORDER, MOVABLE)

    def set_pageblock_type(self, pfn: int, frames: int, migratetype: int) -> None:
        """Make `migratetype` the type of every pageblock in `frames` frames from `pfn` on; no free block moves."""
        for block in range(pfn >> PAGEBLOCK_ORDER, (pfn + frames - 1 >> PAGEBLOCK_ORDER) + 1):
            if migratetype == MOVABLE:
                self.pageblocks.pop(block, None)
            else:
                self.pageblocks[block] = migratetype

    def take(self, order: int, migratetype: int) -> Found | None:
        """Take a block of `order` or more: of its own type, else claimed from another, else stolen; else None."""
        return (
            self.smallest(order, migratetype)
            or (self._claim(order, migratetype) if migratetype < MIGRATE_PCPTYPES else None)
            or (self._steal(order, migratetype) if migratetype < MIGRATE_PCPTYPES else None)
        )

    def smallest(self, order: int, migratetype: int) -> Found | None:
        """Take the smallest block that suffices, the one freed last of its size (BUD-6)."""
        for high in range(order, MAX_PAGE_ORDER + 1):
            if self.free_area[high][migratetype]:
                return self._pop(high, migratetype)
        return self._from_tail() if migratetype == MOVABLE and order <= MAX_PAGE_ORDER else None

    def take_virgin(self) -> int | None:
        """Take a block of the greatest order from the untouched tail."""
        if self.virgin + _MAX_BLOCK > self.end:
            return None
        block, self.virgin = self.virgin, self.virgin + _MAX_BLOCK
        return block

    def give_rest(self, pfn: int, order: int, frames: int) -> None:
        """Put all but the first `frames` frames of a block back: the upper half each time (BUD-5)."""
        at, end = pfn + frames, pfn + (1 << order)
        migratetype = self.pageblock_type(pfn)
        while at < end:
            low = at & -at
            self.free_area[low.bit_length() - 1][migratetype][at] = None
            self.listed += low
            at += low

    def free_one_page(self, pfn: int, order: int) -> None:
        """Give back a block, and join it with its buddy as long as that is free too (BUD-3).

        It goes to the head of its list, or to the tail where the next higher pair is likely to join soon (BUD-4).
        """
        self.listed += 1 << order
        migratetype = self.pageblock_type(pfn)
        while order < MAX_PAGE_ORDER:
            blocks = self._buddies(pfn ^ (1 << order), order, migratetype)
            if blocks is None:
                break
            del blocks[pfn ^ (1 << order)]
            pfn &= ~(1 << order)
            order += 1
        if order > PAGEBLOCK_ORDER:
            self.set_pageblock_type(pfn, 1 << order, migratetype)
            self.map.set_free(pfn, 1 << order)
        self.free_area[order][migratetype][pfn] = None
        higher = (pfn & ~(1 << order)) ^ (2 << order)
        if order < MAX_PAGE_ORDER - 1 and higher in self.free_area[order + 1][migratetype]:
            self.free_area[order][migratetype].move_to_end(pfn, last=False)

    def _buddies(self, buddy: int, order: int, migratetype: int) -> OrderedDict[int, None] | None:
        """Return the list that holds `buddy`, None where it is not free or of a type that does not join with this."""
        if order >= PAGEBLOCK_ORDER:
            other = self.pageblock_type(buddy)
            if other != migratetype and max(other, migratetype) >= MIGRATE_PCPTYPES:
                return None
            migratetype = other
        blocks = self.free_area[order][migratetype]
        return blocks if buddy in blocks else None

    def _pop(self, order: int, migratetype: int) -> Found:
        self.listed -= 1 << order
        pfn, _ = self.free_area[order][migratetype].popitem()
        if order == MAX_PAGE_ORDER:
            self.map.split(pfn)
        return pfn, order

    def _from_tail(self) -> Found | None:
        block = self.take_virgin()
        if block is None:
            return None
        self.map.split(block)
        return block, MAX_PAGE_ORDER

    def _has(self, order: int, migratetype: int) -> bool:
        if self.free_area[order][migratetype]:
            return True
        return order == MAX_PAGE_ORDER and migratetype == MOVABLE and self.virgin < self.end

    def _claim(self, order: int, migratetype: int) -> Found | None:
        """Take over a pageblock of another type, of the largest free block there is (BUD-6)."""
        for high in range(MAX_PAGE_ORDER, order - 1, -1):
            if high < PAGEBLOCK_ORDER // 2 and migratetype == MOVABLE:
                break
            other = next((t for t in _FALLBACKS[migratetype] if self._has(high, t)), None)
            if other is not None and (found := self._claim_block(high, order, other, migratetype)):
                return found
        return None

    def _claim_block(self, high: int, order: int, other: int, migratetype: int) -> Found | None:
        """Make the pageblocks of the next free block of `high` frames `migratetype`; None where too little is free.

        Below a pageblock in size, half of the pageblock must be free (try_to_claim_block): what is in use there is of
        the other type.
        """
        if high >= PAGEBLOCK_ORDER:
            found = self._pop(high, other) if self.free_area[high][other] else self._from_tail()
            if found:
                self.set_pageblock_type(found[0], 1 << high, migratetype)
            return found
        first = next(reversed(self.free_area[high][other])) & -_PAGEBLOCK
        inside = self._blocks_inside(first, other)
        if sum(1 << size for _, size in inside) < _PAGEBLOCK // 2:
            return None
        self.set_pageblock_type(first, _PAGEBLOCK, migratetype)
        for pfn, size in inside:
            del self.free_area[size][other][pfn]
            self.free_area[size][migratetype][pfn] = None
        return self.smallest(order, migratetype)

    def _blocks_inside(self, first: int, migratetype: int) -> list[Found]:
        """Return the free blocks of the pageblock at `first`."""
        found, at = list[Found](), first
        while at < first + _PAGEBLOCK:
            size = next((o for o in range(PAGEBLOCK_ORDER) if at in self.free_area[o][migratetype]), None)
            if size is not None:
                found.append((at, size))
            at += 1 << (size or 0)
        return found

    def _steal(self, order: int, migratetype: int) -> Found | None:
        """Take one block of another type, the smallest that suffices; its pageblock stays what it is (BUD-6)."""
        for high in range(order, MAX_PAGE_ORDER + 1):
            for other in _FALLBACKS[migratetype]:
                if self.free_area[high][other]:
                    return self._pop(high, other)
        return None
