from labkit.views.frame_facts import Folio, Run, Takers, bios, buckets, folio_of, folios, headline, runs, sizes, touched

VA = 0x7F00_0000_0000


def at(page):
    return VA + (page << 12)


def test_pages_are_one_run_only_where_both_addresses_go_on():
    rows = [(at(0), 100, 1), (at(1), 101, 2), (at(3), 104, 1), (at(9), 105, 1)]
    assert runs(rows) == [Run(at(0), 100, 3), Run(at(3), 104, 1), Run(at(9), 105, 1)]


def test_pages_that_are_not_there_are_one_run_and_no_page_joins_them():
    assert runs([(at(0), -1, 1), (at(1), -1, 3), (at(4), 0, 1)]) == [Run(at(0), -1, 4), Run(at(4), 0, 1)]


def test_rows_may_come_in_any_order():
    assert runs([(at(1), 8, 1), (at(0), 7, 1)]) == [Run(at(0), 7, 2)]


def test_a_frame_belongs_to_the_folio_around_it_or_to_none():
    large = folios([(512, 512, ["COMPOUND_HEAD", "THP"]), (64, 16)])
    assert large[0] == Folio(64, 16)
    assert folio_of(1023, large) == Folio(512, 512, "COMPOUND_HEAD, THP")
    assert [folio_of(pfn, large) for pfn in (63, 80, 511, 1024)] == [None] * 4


def test_folios_count_the_pages_of_the_buffer_that_lie_in_them():
    found = runs([(at(0), 60, 8), (at(8), 600, 100)])
    large = folios([(64, 16), (512, 512), (2048, 512)])
    assert touched(found, large) == [(Folio(64, 16), 4), (Folio(512, 512), 100)]
    assert sizes(found, large) == [(4096, 4), (65536, 4), (2 << 20, 100)]


def test_flags_that_are_numbers_are_no_words():
    assert folios([(0, 2, [15, 22])])[0].words == ""


def test_a_bio_has_the_vectors_whose_addresses_are_known():
    (bio,) = bios([[2048, [[4096, 4096], [None, 512]]]])
    assert (bio.sector, bio.vecs, bio.nbytes) == (2048, ((4096, 4096),), 4096)


def test_a_run_was_taken_by_every_bio_with_a_vector_in_it():
    takers = Takers.of(bios([[0, [[0x1000, 0x8000]]], [8, [[0x3000, 512], [0x3200, 512]]], [16, [[0x9000, 4096]]]]))
    assert [takers.of_run(Run(VA, pfn, 1)) for pfn in (0, 1, 3, 8, 9, 10)] == [set(), {0}, {0, 1}, {0}, {2}, set()]
    assert takers.of_run(Run(VA, 0, 16)) == {0, 1, 2}


def test_run_lengths_are_counted_by_powers_of_two_and_all_above_512_together():
    rows, page = [], 0
    for i, pages in enumerate((1, 2, 3, 255, 512, 1536)):
        rows.append((at(page), 10_000 * i, pages))
        page += pages
    told = {bucket.name: (bucket.runs, bucket.pages) for bucket in buckets(runs(rows)) if bucket.runs}
    assert told == {"1": (1, 1), "2-3": (2, 5), "128-255": (1, 255), "512+": (2, 2048)}
    assert [bucket.name for bucket in buckets(runs(rows[:1]))][-2:] == ["256-511", "512+"]
    assert buckets([]) == buckets([Run(VA, -1, 4)]) == []


def test_the_headline_tells_pages_runs_folios_and_what_is_not_there():
    found = runs([(at(0), 64, 4), (at(4), 10, 1), (at(5), -1, 2)])
    head, under = headline(found, folios([(64, 16)]), bios([[0, [[64 << 12, 16384], [10 << 12, 4096]]]]))
    assert head == "Five pages in two runs"
    assert under == (
        "The longest run has four pages; folios of 4 KiB, 64 KiB; two pages not there; one bio with two vectors."
    )


def test_memory_without_any_frame_says_that_nothing_can_be_pinned():
    assert headline(runs([(VA, -1, 1)]), []) == (
        "One page without a frame", "Nothing of it can be pinned: there is no struct page to take a pin on.",
    )  # fmt: skip
    assert headline([], [])[0] == "No memory"
