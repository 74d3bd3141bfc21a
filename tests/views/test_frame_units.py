from labkit.views.frame_facts import Run, bios, folios
from labkit.views.frame_units import MOST, steps, units, where

VA = 0x7F00_0000_0000


def spread(pages):
    return [Run(VA + (i << 12), 100 * i, 1) for i in range(pages)]


def said(runs, large=(), taken=()):
    return [step.text for step in steps(units(runs, taken), runs, large, taken)]


def test_few_runs_are_a_unit_each_and_of_many_neighbours_are_bundled():
    assert len(units(spread(MOST), ())) == MOST
    bundled = units(spread(MOST + 1), ())
    assert [len(unit.runs) for unit in bundled] == [2] * (MOST // 2) + [1]
    assert [unit.first for unit in bundled[:3]] == [0, 2, 4]


def test_a_step_tells_where_a_run_lies_and_how_far_the_next_one_is():
    runs = [Run(VA, 10, 1), Run(VA + 4096, 267, 2), Run(VA + 12288, 9, 1)]
    assert said(runs) == [
        "One page at PFN 0xa, a folio of its own; the next page lies 1 MiB further up.",
        "Two pages at PFN 0x10b, each a folio of its own; the next page lies 1.0 MiB down.",
        "One page at PFN 0x9, a folio of its own.",
    ]


def test_a_step_tells_the_folio_and_a_hole_in_user_memory():
    runs = [Run(VA, 64, 4), Run(VA + (8 << 12), 68, 1), Run(VA + (9 << 12), -1, 2)]
    assert said(runs, folios([(64, 16)])) == [
        "Four pages at PFN 0x40, in a folio of 64 KiB; the next frame follows, its user page does not.",
        "One page at PFN 0x44, in a folio of 64 KiB.",
        "Two pages without a frame: not there, or nothing that can be pinned.",
    ]


def test_each_bio_has_a_step_after_all_runs():
    texts = said([Run(VA, 1, 3)], (), bios([[64, [[4096, 4096], [8192, 8192]]], [80, [[None, 512]]]]))
    assert texts[1:] == [
        "12 KiB in two vectors: the longest is 8 KiB at 0x2000.",
        "0 B in no vectors: where its memory lies is not known.",
    ]


def test_a_run_without_a_frame_is_nowhere():
    assert (where(Run(VA, 16, 1)), where(Run(VA, -1, 1))) == ("PFN 0x10", "no frame")
