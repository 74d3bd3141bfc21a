"""An event's format file becomes its decoder: the bytes of a record become named numbers and texts."""

import errno
import re
import struct
from functools import lru_cache
from typing import NamedTuple

from labkit.errors import SyscallError

_FIELD = re.compile(
    r"\tfield:(?P<type>.*?)(?P<name>\w+)(?P<array>\[[^;]*\])?;"
    r"\toffset:(?P<offset>\d+);\tsize:(?P<size>\d+);(?:\tsigned:(?P<signed>\d+);)?"
)
_ID = re.compile(r"^ID: (\d+)$", re.MULTILINE)
_INT = {1: "b", 2: "h", 4: "i", 8: "q"}
_PID = "common_pid"


class Event(NamedTuple):
    """One event: `t` in ns of CLOCK_MONOTONIC, the `cpu` and thread id it ran in, "group:name", and its own fields."""

    t: int
    cpu: int
    name: str
    pid: int
    fields: dict[str, int | str]


class Field(NamedTuple):
    """A field of a record: where it lies (bytes from the record's begin), and how it is read.

    `base` is what the place of a dynamic array is counted from; None for a field that is all there (TRACE-3).
    """

    name: str
    offset: int
    size: int
    signed: bool
    text: bool
    array: bool
    base: int | None

    @property
    def code(self) -> str:
        """Its letter for the struct module: a number, or so many bytes."""
        if self.array or self.size not in _INT:
            return f"{self.size}s"
        letter = _INT[self.size]
        return letter if self.signed else letter.upper()


class Format:
    """How the records of one event are read: `number` is what they begin with, `name` is "group:name" (TRACE-3)."""

    def __init__(self, name: str, text: str) -> None:
        """Read `text`, the event's format file. Raises SyscallError EBADMSG for what is none."""
        number, every = _ID.search(text), fields(text)
        if number is None or _PID not in {each.name for each in every}:
            raise SyscallError("tracefs", f"format of {name}", f"has no ID, or no {_PID}", errno.EBADMSG)
        self.name, self.number = name, int(number[1])
        own = sorted((each for each in every if not each.name.startswith("common_")), key=lambda each: each.offset)
        (pid,) = (each for each in every if each.name == _PID)
        self._unpack = _packed([pid, *own]).unpack_from
        self._names = [_PID, *(each.name for each in own)]
        self._texts = [each.name for each in own if each.text and each.base is None]
        self._blobs = [each.name for each in own if each.code.endswith("s") and not each.text]
        self._dynamic = [(each.name, each.base, each.text) for each in own if each.base is not None]

    def event(self, t: int, cpu: int, page: bytes, at: int) -> Event:
        """Return the event whose record begins at byte `at` of `page`; neither number nor text: bytes as hex digits."""
        named = dict(zip(self._names, self._unpack(page, at), strict=True))
        for name in self._texts:
            named[name] = _text(named[name])
        for name in self._blobs:
            named[name] = named[name].hex()
        for name, base, text in self._dynamic:
            place = named[name]
            first = at + base + (place & 0xFFFF)
            data = page[first : first + (place >> 16)]
            named[name] = _text(data) if text else data.hex()
        return Event(t, cpu, self.name, named.pop(_PID), named)


def fields(text: str) -> list[Field]:
    """Return the fields that a format file, or events/header_page, lists."""
    return [_field(match) for match in _FIELD.finditer(text)]


def _field(match: re.Match[str]) -> Field:
    kind, offset, size = match["type"], int(match["offset"]), int(match["size"])
    words = kind.replace("[", " [").split()
    base = {"__data_loc": 0, "__rel_loc": offset + size}.get(words[0] if words else "")
    array = match["array"] is not None
    text = "char" in words and "unsigned" not in words and (array or base is not None)
    return Field(match["name"], offset, size, match["signed"] == "1", text, array, base)


def _packed(row: list[Field]) -> struct.Struct:
    """Return what reads the fields `row`, which lie in this order, and skips what is between them."""
    codes, end = ["="], 0
    for each in row:
        codes += [f"{each.offset - end}x", each.code]
        end = each.offset + each.size
    return struct.Struct("".join(codes))


@lru_cache(maxsize=4096)
def _text(data: bytes) -> str:
    """Return the text before the first NUL of `data`; bytes that are no UTF-8 are written out in hex."""
    return data.split(b"\0", 1)[0].decode(errors="backslashreplace")
