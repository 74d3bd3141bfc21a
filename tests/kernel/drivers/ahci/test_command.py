from labkit.kernel.drivers.ahci.command import fis_of, header, prds
from labkit.kernel.drivers.ops import REQ_FUA, Request


def rq(nbytes, sector=0, *, write=False, opf=0):
    made = Request(1, 1, 5, sector, (((0x1000, nbytes),) if nbytes else (), nbytes, 1), write=write)
    made.opf = opf
    return made


def test_a_queued_read_has_its_count_in_features_and_its_tag_in_count():
    raw = fis_of(rq(4096, 0x0605_0403_0201), 5, ncq=True)
    assert raw.hex(" ") == "27 80 60 08 01 02 03 40 04 05 06 00 28 00 00 00 00 00 00 00"


def test_a_read_that_is_not_queued_has_its_count_where_ata_had_it():
    assert fis_of(rq(512, 1), 5, ncq=False).hex(" ") == "27 80 25 00 01 00 00 40 00 00 00 00 01 00 00 00 00 00 00 00"


def test_commands_of_writes_fua_and_flush():
    codes = [
        (fis_of(rq(512, write=True, opf=opf), 0, ncq=ncq)[2], fis_of(rq(512, write=True, opf=opf), 0, ncq=ncq)[7])
        for opf in (0, REQ_FUA)
        for ncq in (True, False)
    ]
    assert codes == [(0x61, 0x40), (0x35, 0x40), (0x61, 0xC0), (0x3D, 0x40)]
    assert fis_of(rq(0, write=True), 0, ncq=True)[2:4] == b"\xea\x00"


def test_65536_sectors_are_written_as_0():
    assert fis_of(rq(32 << 20), 0, ncq=False)[12:14] == b"\x00\x00"


def test_a_length_stands_less_one_and_no_entry_is_of_more_than_4_mib():
    assert prds([(0x1_0000_1000, 512)]).hex(" ", 4) == "00100000 01000000 00000000 ff010000"
    entries = prds([(0x1000, (4 << 20) + 512)])
    assert entries.hex(" ", 16) == "001000000000000000000000ffff3f00 001040000000000000000000ff010000"


def test_a_slot_tells_of_the_fis_the_direction_and_the_table():
    assert header(0x2_0000_0500, 3, write=True).hex(" ", 4).split()[:4] == [
        "45000300",
        "00000000",
        "00050000",
        "02000000",
    ]
    assert header(0x500, 1, write=False)[0] == 5
