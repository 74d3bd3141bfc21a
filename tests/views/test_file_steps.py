from labkit.trace.events import (
    BlockBioQueue,
    BlockRqComplete,
    CopyFolio,
    FolioFlags,
    IomapDioComplete,
    IomapDioRwBegin,
    IomapIterDstmap,
    IovIterZero,
    MmFilemapAddToPageCache,
    MmFilemapDeleteFromPageCache,
    PageCacheRaOrder,
    SysEnter,
    SysExit,
)
from labkit.trace.page_flags import PG_dirty, PG_uptodate
from labkit.trace.trace import Trace
from labkit.views.file_steps import CachedFolio, FileBio, Lie, Span, file_story
from labkit.views.journey import NEVER


def test_a_direct_read_tells_extents_zeros_and_bios():
    told = file_story(Trace((
        SysEnter(0, 1, "pread64", 3, 0x7000, 8192, 4096),
        IomapDioRwBegin(1, 1, 12, 65536, 4096, 8192),
        IomapIterDstmap(1, 1, 12, 81920, 4096, 4096, "mapped"),
        BlockBioQueue(2, 1, 1, 160, 8, 1, 0),
        IomapIterDstmap(3, 1, 12, -1, 8192, 4096, "hole"),
        IovIterZero(4, 1, 4096, 4096),
        BlockRqComplete(9, 1, 1, 0, 160, 8, 0),
        SysExit(9, 1, "pread64", 8192),
    )))  # fmt: skip
    assert told.told == list(range(8))
    assert told.isize == 65536
    assert told.lies == [Lie(4096, 4096, 81920, "mapped", "", 2), Lie(8192, 4096, -1, "hole", "", 4)]
    assert told.zeros == [Span(8192, 4096, 5, NEVER)]
    assert told.bios == [FileBio(1, 81920, 4096, 3, 6)]
    assert told.calls == [Span(4096, 8192, 0, 7)]


def test_folios_get_their_place_from_the_readahead_and_keep_their_marks():
    told = file_story(Trace((
        MmFilemapAddToPageCache(0, 1, 0, 1, 1, ((0x4000, 4096),), "f"),
        MmFilemapAddToPageCache(0, 1, 2, 1, 1, ((0x8000, 16384),), "f"),
        PageCacheRaOrder(0, 1, 3, 5, 2, -1),
        FolioFlags(5, 1, ((0x8000, 16384),), PG_uptodate, 1),
        FolioFlags(6, 0, ((0x9_0000, 4096),), PG_uptodate, 0),
        MmFilemapDeleteFromPageCache(9, 1, 1, ((0x8000, 16384),)),
    )))  # fmt: skip
    assert told.told == [0, 1, 2, 3, 5]
    small, large = told.folios
    assert (small.offset, small.nbytes, small.came, small.gone) == (12288, 4096, 0, NEVER)
    assert (large.offset, large.nbytes, large.came, large.gone) == (16384, 16384, 1, 4)
    assert large.marks == [("uptodate", 3, 4)]


def test_a_folio_that_is_written_lies_where_it_is_copied_to():
    told = file_story(Trace((
        MmFilemapAddToPageCache(0, 1, 2, 1, 1, ((0x8000, 16384),), "f"),
        FolioFlags(0, 1, ((0x8000, 16384),), PG_uptodate, 1),
        CopyFolio(0, 1, 36864, 4096, write=True),
    )))  # fmt: skip
    assert [folio.offset for folio in told.folios] == [32768]
    assert told.copies == [Span(36864, 4096, 2, 3)]


def test_a_mark_lasts_from_when_it_comes_to_when_it_goes():
    folio = CachedFolio(0, 4096, 0x4000, 0)
    folio.flags(1, PG_uptodate | PG_dirty, 0)
    folio.flags(4, 0, PG_dirty)
    folio.end()
    assert folio.marks == [("dirty", 1, 4), ("uptodate", 1, NEVER)]


def test_a_layout_is_known_before_the_first_record():
    told = file_story(Trace(()), [(0, 4096, 65536, "mapped"), (4096, 4096, -1, "hole")])
    assert told.isize == 8192
    assert [lie.step for lie in told.lies] == [0, 0]


def test_zeros_that_a_direct_write_puts_beside_its_data_are_known_as_such():
    told = file_story(Trace((
        SysEnter(0, 1, "pwrite64", 3, 0x7000, 1024, 5120), IomapDioRwBegin(1, 1, 12, 16384, 5120, 1024),
        BlockBioQueue(2, 1, 1, 192, 2, 1, -1), BlockBioQueue(3, 1, 2, 194, 2, 1, 0),
        BlockBioQueue(4, 2, 3, 400, 8, 1, -1),
    )))  # fmt: skip
    assert [bio.zeros for bio in told.bios] == [True, False, False]


def test_unwritten_blocks_are_settled_when_a_write_ends_well_and_not_when_a_read_does():
    for rwbs, error, settled in (("WS", 0, 3), ("WS", -5, NEVER), ("RS", 0, NEVER)):
        told = file_story(Trace((
            IomapDioRwBegin(1, 1, 12, 16384, 0, 4096), IomapIterDstmap(2, 1, 12, 65536, 0, 4096, "unwritten"),
            BlockBioQueue(3, 1, 1, 128, 8, 1, 0, rwbs), IomapDioComplete(9, 1, 12, 0, error, 4096),
        )))  # fmt: skip
        assert told.lies[0].settled == settled
