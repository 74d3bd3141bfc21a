"""The words of a page table: which bit says what (PT-2), and the four levels (PT-1)."""

PAGE_PRESENT, PAGE_RW, PAGE_USER = 1 << 0, 1 << 1, 1 << 2
PAGE_ACCESSED, PAGE_DIRTY, PAGE_PSE, PAGE_SPECIAL = 1 << 5, 1 << 6, 1 << 7, 1 << 9
"""Bits of an entry. PSE: it is a leaf above the last level. SPECIAL: no struct page is to be found by it (PT-3)."""
ADDR_MASK = 0x000F_FFFF_FFFF_F000
LEVELS = (("PGD", 39), ("PUD", 30), ("PMD", 21), ("PTE", 12))
"""The four levels, and how far an address is shifted to be its index there."""
BIT_NAMES = {
    PAGE_PRESENT: "P", PAGE_RW: "RW", PAGE_USER: "US", PAGE_ACCESSED: "A", PAGE_DIRTY: "D", PAGE_PSE: "PSE",
    PAGE_SPECIAL: "SPECIAL",
}  # fmt: skip
