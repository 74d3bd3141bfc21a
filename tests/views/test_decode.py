import struct

import pytest

from labkit.trace.events import AtaQcIssue, NvmeSetupCmd, VirtqueueAdd
from labkit.views.decode import decode
from labkit.widgets.descriptors import sample

(PRP,) = sample().records


def told(block):
    return [(field.at, field.nbytes, field.name, field.value, field.meaning) for field in block.fields]


def sqe(dptr, flags=0):
    return bytes((2, flags, 7, 0, 1, 0, 0, 0)) + bytes(16) + dptr + struct.pack("<QHHQQ", 8, 15, 0, 0, 0)[:24]


def sgl(addr, nbytes, kind):
    return struct.pack("<QIHBB", addr, nbytes, 0, 0, kind)


def test_a_submission_queue_entry_is_64_bytes_field_by_field():
    entry, _ = decode(PRP)
    assert sum(field.nbytes for field in entry.fields) == 64
    assert [(row[0], row[2], row[3]) for row in told(entry)[5:10]] == [
        (24, "PRP1", "0xffff_8200"), (32, "PRP2", "0x4300_0000"), (40, "SLBA", "8"), (48, "NLB", "23"),
        (50, "control", "0x4000"),
    ]  # fmt: skip
    assert told(entry)[8][4] == "24 blocks: the field is one less"
    assert told(entry)[9][4] == "FUA: straight to the medium"


def test_a_prp_list_is_read_entry_by_entry():
    _, listed = decode(PRP)
    assert (listed.title, listed.addr) == ("PRP list 1 of 1", 0x4300_0000)
    assert told(listed)[2] == (16, 8, "entry 2", "0xffff_b000", "page 0xffffb")


def test_of_two_lists_the_first_leads_to_the_second():
    full = PRP._replace(lists=f"0x1000:{bytes(8).hex()} 0x2000:{bytes(8).hex()}")
    _, first, last = decode(full)
    assert first.under == "its last entry leads to the next list, at 0x2000 (NVME-5)"
    assert last.under == ""


def test_a_list_that_is_told_whole_shows_its_chain_pointer():
    data = bytes(8) + (0x2000).to_bytes(8, "little")
    _, first, _ = decode(PRP._replace(lists=f"0x1000:{data.hex()} 0x2000:{bytes(8).hex()}"))
    assert [field.kind for field in first.fields] == ["address", "pointer"]


@pytest.mark.parametrize(
    ("two", "said", "kind"),
    [(0, "not used: all is in PRP1", "reserved"), (0x9000, "page 0x9", "address")],
)
def test_prp2_is_a_page_or_nothing_where_there_is_no_list(two, said, kind):
    rec = PRP._replace(sqe=sqe(struct.pack("<QQ", 0x8000, two)).hex(), lists="")
    (entry,) = decode(rec)
    assert (entry.fields[6].meaning, entry.fields[6].kind) == (said, kind)


def test_an_sgl_in_the_command_is_one_descriptor():
    rec = PRP._replace(sqe=sqe(sgl(0x8200, 8192, 0), 0x40).hex(), encoding="sgl1", lists="")
    (entry,) = decode(rec)
    assert told(entry)[5:8] == [
        (24, 8, "SGL address", "0x8200", "page 0x8, byte 512 of it"),
        (32, 4, "SGL length", "8,192", "8 KiB"),
        (36, 4, "SGL type", "0x00", "data block"),
    ]


def test_an_sgl_in_memory_has_sixteen_bytes_a_descriptor():
    data = sgl(0x8000, 65536, 0) + sgl(0x4_0000, 4096, 0)
    rec = PRP._replace(sqe=sqe(sgl(0x3000, 32, 0x30), 0x40).hex(), encoding="sgl", lists=f"0x3000:{data.hex()}")
    entry, listed = decode(rec)
    assert entry.fields[7].meaning == "last segment: the other descriptors"
    assert (listed.title, len(listed.fields)) == ("SGL, two descriptors", 6)
    assert told(listed)[4] == (24, 4, "length", "4,096", "4 KiB")


def test_a_chain_of_virtio_has_flags_and_links():
    descs = struct.pack("<QIHH", 0x5000, 16, 1, 1) + struct.pack("<QIHH", 0x8000, 8192, 3, 2)
    descs += struct.pack("<QIHH", 0x6000, 1, 2, 0)
    rec = VirtqueueAdd(0, 1, 1, 5, 8, 8192, True, 3, 48, struct.pack("<IIQ", 0, 0, 8).hex(), descs.hex())
    header, chain = decode(rec)
    assert told(header)[0] == (0, 4, "type", "0", "VIRTIO_BLK_T_IN, read")
    assert told(header)[2] == (8, 8, "sector", "8", "byte 4,096 of the disk")
    assert chain.title == "Three descriptors in an indirect table, behind slot 5"
    assert [row[4] for row in told(chain) if row[2] == "flags"] == [
        "NEXT", "NEXT | WRITE, the device writes", "WRITE, the device writes",
    ]  # fmt: skip
    assert [row[4] for row in told(chain) if row[2].startswith("desc")] == ["header", "page 0x8", "status byte"]


def test_the_table_of_ahci_counts_from_one_less():
    fis = bytes((0x27, 0x80, 0x60, 16, 8, 0, 0, 0x40, 0, 0, 0, 0, 5 << 3, 0)) + bytes(6)
    prdt = struct.pack("<QII", 0x8000, 0, 8191)
    command, table = decode(AtaQcIssue(0, 1, 1, 5, 8, 8192, 1, 16, fis.hex(), prdt.hex()))
    assert sum(field.nbytes for field in command.fields) == 20
    assert told(command)[2] == (2, 1, "command", "0x60", "READ FPDMA QUEUED")
    assert told(command)[3][4] == "count: 16 sectors, 8 KiB"
    assert told(command)[4][4] == "sector 8 in all"
    assert told(command)[8][4] == "tag 5"
    assert told(table)[2] == (12, 4, "DBC", "0x1fff", "8 KiB: the field is one less")


def test_bytes_that_are_not_told_make_no_block():
    assert decode(NvmeSetupCmd(0, 1, 1, 0, 0, 4096, 0, 0, 1, 0, "")) == []
    assert decode(VirtqueueAdd(0, 1, 1, 0, 0, 4096, False, 3, 48, "", "")) == []
    assert decode(AtaQcIssue(0, 1, 1, 0, 0, 4096, 1, 16, "", "")) == []
