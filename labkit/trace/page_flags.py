"""Flags of a folio (enum pageflags), as records and snapshots carry them."""

PG_locked, PG_referenced, PG_uptodate, PG_dirty = 1 << 0, 1 << 2, 1 << 3, 1 << 4
PG_writeback, PG_anon, PG_hugetlb, PG_ksm, PG_zero = 1 << 8, 1 << 12, 1 << 17, 1 << 21, 1 << 24
PG_readahead = 1 << 9  # PG_reclaim's bit: no folio needs both at once
PG_anon_exclusive = 1 << 34
"""Flags of a folio: bits 0 to 24 as /proc/kpageflags numbers them, the last as the lab does."""
FLAG_NAMES = {
    PG_locked: "locked", PG_referenced: "referenced", PG_uptodate: "uptodate", PG_dirty: "dirty",
    PG_writeback: "writeback", PG_readahead: "readahead", PG_anon: "anon", PG_hugetlb: "hugetlb",
    PG_ksm: "ksm", PG_zero: "zero", PG_anon_exclusive: "anon_exclusive",
}  # fmt: skip
ANON = PG_anon | PG_uptodate | PG_anon_exclusive
"""What a fresh anonymous folio carries."""
