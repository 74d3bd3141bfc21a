import struct

import pytest

from labkit.errors import SyscallError
from labkit.host.watch.tracefs.formats import Event, Format

COMMON = (
    "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
    "\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
    "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
)


def told(*fields, number=7):
    """Return the text of a format file with `fields`: (declaration, offset, size, signed)."""
    rows = [f"\tfield:{what};\toffset:{at};\tsize:{size};\tsigned:{sign};\n" for what, at, size, sign in fields]
    return f'name: thing\nID: {number}\nformat:\n{COMMON}{"".join(rows)}\nprint fmt: "%d", REC->x\n'


def read(data, *fields, pid=5):
    """Return the event in a record that begins with the common fields and goes on with `data`; there is more around."""
    record = struct.pack("=HBBi", 7, 1, 2, pid) + data
    return Format("group:thing", told(*fields)).event(100, 3, b"before.." + record + b"after", 8)


def test_an_event_has_a_time_a_cpu_a_name_a_thread_and_fields():
    data = struct.pack("=I4xQ", 7340032, 16)
    event = read(data, ("dev_t dev", 8, 4, 0), ("sector_t sector", 16, 8, 0), pid=4238)
    assert event == Event(100, 3, "group:thing", 4238, {"dev": 7340032, "sector": 16})


def test_a_number_has_the_sign_that_its_format_says():
    every = ("u8 a", 8, 1, 0), ("s8 b", 9, 1, 1), ("u16 c", 10, 2, 0), ("short d", 12, 2, 1)
    assert read(b"\xff" * 6, *every).fields == {"a": 255, "b": -1, "c": 65535, "d": -1}
    every = ("unsigned int e", 8, 4, 0), ("int error", 12, 4, 1), ("sector_t g", 16, 8, 0), ("long ret", 24, 8, 1)
    assert read(b"\xff" * 24, *every).fields == {"e": 2**32 - 1, "error": -1, "g": 2**64 - 1, "ret": -1}


def test_a_thread_may_have_a_negative_number():
    assert read(b"", pid=-1).pid == -1


def test_a_pointer_is_a_number():
    every = ("char * buf", 8, 8, 0), ("const struct iovec * vec", 16, 8, 0)
    assert read(struct.pack("=QQ", 2**47, 5), *every).fields == {"buf": 2**47, "vec": 5}


def test_a_text_ends_at_its_first_nul():
    every = ("char rwbs[10]", 8, 10, 0), ("char comm[16]", 18, 16, 0)
    data = b"WFS\0junk\0\0" + b"sixteen chars ok"
    assert read(data, *every).fields == {"rwbs": "WFS", "comm": "sixteen chars ok"}


def test_a_text_that_is_no_utf_8_is_shown_byte_by_byte():
    assert read(b"h\xc3\xa9\xff\0\0\0\0", ("char comm[8]", 8, 8, 0)).fields == {"comm": r"hé\xff"}


def test_a_dynamic_text_lies_where_its_field_says():
    data = struct.pack("=IH2x", (6 << 16) | 16, 3) + b"hello\0"
    every = ("__data_loc char[] cmd", 8, 4, 0), ("u16 after", 12, 2, 0)
    assert read(data, *every).fields == {"cmd": "hello", "after": 3}


def test_a_relative_one_counts_from_the_end_of_its_field():
    data = struct.pack("=II", (6 << 16) | 4, 0) + b"hello\0"
    assert read(data, ("__rel_loc char[] name", 8, 4, 0)).fields == {"name": "hello"}


def test_what_is_neither_number_nor_text_is_hex_digits():
    every = ("__u8 cdb[3]", 8, 3, 0), ("struct thing x", 11, 5, 0), ("__data_loc unsigned long[] args", 16, 4, 0)
    data = bytes(range(8)) + struct.pack("=I", (2 << 16) | 20) + b"\xab\xcd"
    assert read(data, *every).fields == {"cdb": "000102", "x": "0304050607", "args": "abcd"}


def test_fields_come_in_the_order_in_which_they_lie():
    every = ("u8 second", 9, 1, 0), ("u8 first", 8, 1, 0)
    assert list(read(b"\1\2", *every).fields.items()) == [("first", 1), ("second", 2)]


@pytest.mark.parametrize("text", ["", "ID: 7\n", told().replace("ID: 7\n", ""), told().replace("common_pid", "pid")])
def test_what_is_no_format_is_refused(text):
    with pytest.raises(SyscallError, match="tracefs: format of group:thing has no ID, or no common_pid"):
        Format("group:thing", text)
