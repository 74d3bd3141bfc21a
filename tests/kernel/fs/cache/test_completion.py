from types import SimpleNamespace

import pytest

from labkit.errors import InvariantError
from labkit.kernel.fs.cache.completion import WAYS

PAGE = 4096
FOLIOS = [SimpleNamespace(pfn=pfn, nbytes=PAGE << order) for pfn, order in ((4, 2), (8, 0), (9, 0), (16, 3))]


class Memory:
    """Folios at frames 4 to 9 and 16 to 23; `asked` is what was looked for."""

    def __init__(self):
        self.asked = []

    def phys_to_folio(self, addr):
        self.asked.append(addr)
        return next((one for one in FOLIOS if one.pfn * PAGE <= addr < one.pfn * PAGE + one.nbytes), None)


def bio(*vecs):
    return SimpleNamespace(payload=SimpleNamespace(vecs=vecs))


VECS = ((5 * PAGE, 5 * PAGE), (16 * PAGE + 512, 1024))
PIECES = [(4, PAGE, 3 * PAGE), (8, 0, PAGE), (9, 0, PAGE), (16, 512, 1024)]


@pytest.mark.parametrize(("how", "lookups"), [("phys_to_folio", 4), ("folio_walk", 2)])
def test_both_ways_find_the_same_pieces_and_differ_in_lookups(how, lookups):
    found = list(WAYS[how][0](Memory(), bio(*VECS)))
    assert [(piece.folio.pfn, piece.start, piece.nbytes) for piece in found] == PIECES
    assert sum(piece.looked_up for piece in found) == lookups


def test_a_walk_looks_for_nothing_behind_the_last_folio():
    memory = Memory()
    list(WAYS["folio_walk"][0](memory, bio((8 * PAGE, 2 * PAGE))))
    assert memory.asked == [8 * PAGE, 9 * PAGE]


@pytest.mark.parametrize("how", WAYS)
def test_memory_without_a_folio_was_never_read_buffered(how):
    with pytest.raises(InvariantError, match=r"filemap: addr=0x40000 has no folio, and was read or written buffered"):
        list(WAYS[how][0](Memory(), bio((0x40000, PAGE))))
