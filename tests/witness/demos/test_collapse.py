import pytest

from labkit.errors import NotAllowed
from labkit.witness.demos import collapse
from labkit.witness.demos.collapse import DEMO, kernel


def test_one_registered_page_keeps_all_512_where_they_are():
    pinned, free = DEMO.replay().seen.rows
    assert pinned[1:3] == ["-EAGAIN", 0]
    assert free[1:3] == [0, 512]
    assert free[4] == 1
    assert pinned[3] == pinned[4] > 256


@pytest.mark.usefixtures("able")
def test_where_no_huge_page_is_to_be_had_nothing_is_said_about_pins(monkeypatch):
    monkeypatch.setattr(collapse, "madvise", lambda *_: -12)
    with pytest.raises(NotAllowed, match="says -ENOMEM where nobody holds a page: 2 MiB in one piece are not to be"):
        kernel()
