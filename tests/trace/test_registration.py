"""What a registration costs is told by records of no IO, and counted apart from the IOs."""

from labkit.trace.events import DmaMap, DmaUnmap, GupPin, GupUnpin, SysEnter
from labkit.trace.registration import REGISTRATION, is_registration, registration

OF_IT = [
    GupPin(0, 0, 1, "page", 0x7F0000000000, ((0x64000, 4096), (0x90000, 8192)), 3, 3, 3, 24),
    DmaMap(0, 0, -1, ((0xFFF00000, 12288),), ((0x64000, 4096), (0x90000, 8192)), 2, 0, 0, 16, "iova", 3),
    DmaUnmap(9, 0, -1, 1, stale=False),
    GupUnpin(9, 0, 1, 3, 3),
]
OF_AN_IO = [
    SysEnter(1, 1, "pread64", 3, 0x7F0000000000, 4096, 0),
    GupPin(1, 1, 2, "none", 0x7F0000000000, ((0x64000, 4096),), 0, 0, 0, 0),
    DmaMap(2, 1, 1, ((0xFFF00000, 4096),), ((0x64000, 4096),), 0, 0, 0, 0, "premapped"),
    DmaUnmap(3, 1, 1, 0, stale=False),
    GupUnpin(4, 1, 2, 0, 0),
]


def test_the_records_of_a_registration_are_of_no_io_and_no_request():
    assert [is_registration(rec) for rec in OF_IT + OF_AN_IO] == [True] * 4 + [False] * 5


def test_it_is_counted_whatever_happens_between():
    assert registration([*OF_IT[:2], *OF_AN_IO, *OF_IT[2:]]) == {
        "atomics": 6, "struct_pages": 6, "maps": 2, "ioptes": 3, "descriptor_bytes": 40, "iotlb_syncs": 1,
        "pinned_bytes": 12288, "mapped_bytes": 12288,
    }  # fmt: skip


def test_where_nothing_is_registered_every_meter_is_0():
    assert registration(OF_AN_IO) == dict.fromkeys(REGISTRATION, 0)
