from labkit.kernel.mm.backing.grant import FOREIGN, Scratch, map_grant_pages, map_grant_phyrs, scattered
from labkit.kernel.mm.backing.provider import Provider
from labkit.kernel.mm.gup.phyrs import get_user_phyrs

VA, AT, SCRATCH = 0x7F00_0000_0000, 0x2_0000_0000, 0x3_0000_0000


def test_no_two_neighbours_of_the_guest_are_neighbours_in_the_machine():
    assert scattered(AT, 20480) == (
        (AT, 4096),
        (AT + 8192, 4096),
        (AT + 16384, 4096),
        (AT + 4096, 4096),
        (AT + 12288, 4096),
    )
    assert sum(nbytes for _, nbytes in scattered(AT, 1 << 30)) == 1 << 30
    assert len(scattered(AT, 1 << 30)) == 256
    assert scattered(AT, 4096) == ((AT, 4096),)


def test_phyrs_are_machine_addresses_and_say_that_they_are_foreign(make_mm, told):
    space = make_mm()
    grant = map_grant_phyrs(space.mm.frames, scattered(AT, 12288), Provider("foreign0", AT, 12288, FOREIGN))
    grant.mmap(space.mm, 12288)
    phyrs = get_user_phyrs(space.mm, VA, 12288, write=True).phyrs
    assert [(phyr.addr, phyr.len) for phyr in phyrs] == [(AT, 4096), (AT + 8192, 4096), (AT + 4096, 4096)]
    assert {phyr.cls.kind for phyr in phyrs} == {"foreign"}
    assert list(space.mm.folios.states()) == []
    told(space)


def test_pages_are_made_up_and_p2m_knows_what_they_stand_for(make_mm, told):
    space = make_mm()
    scratch = Scratch(SCRATCH, {})
    map_grant_pages(space.mm.frames, scattered(AT, 12288), scratch, "foreign0")
    assert scratch.p2m == {0x300000: 0x200000, 0x300001: 0x200002, 0x300002: 0x200001}
    assert [s.pfn for s in space.mm.folios.states()] == [0x300000, 0x300001, 0x300002]
    told(space)
