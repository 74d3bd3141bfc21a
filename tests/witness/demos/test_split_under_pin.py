from pathlib import Path

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.witness.demos import split_under_pin
from labkit.witness.demos.split_under_pin import DEMO

SHMEM = Path("/sys/kernel/mm/transparent_hugepage").rglob("shmem_enabled")


def test_the_folio_stays_whole_while_a_page_of_it_is_registered():
    (_, before, after, split, failed), (_, kept, whole, none, refused) = DEMO.replay().seen.rows
    assert (before, kept, whole) == (512, 512, 512)
    assert after < 512
    assert (split, failed, none, refused) == (1, 0, 0, 1)


@pytest.mark.host
def test_the_settings_are_what_they_were(live):
    before = {path: path.read_text() for path in SHMEM}
    live(DEMO)
    assert before
    assert {path: path.read_text() for path in before} == before


@pytest.mark.host
def test_a_hole_that_is_not_punched_is_no_answer(monkeypatch):
    monkeypatch.setattr(split_under_pin, "madvise", lambda *_: -22)
    with pytest.raises((SyscallError, NotAllowed), match=r"MADV_REMOVE punches no hole|2 MiB"):
        split_under_pin.kernel()
