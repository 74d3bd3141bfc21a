"""The kernel's description of its own structs becomes sizes and offsets: /sys/kernel/btf/vmlinux, for every user.

The format is BTF (Documentation/bpf/btf.rst): a header, types of three words and what their kind adds, and strings.
"""

import errno
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

from labkit.errors import BadInput, NotAllowed

VMLINUX = Path("/sys/kernel/btf/vmlinux")
_HEADER = struct.Struct("=HBBIIIII")
"""magic version flags hdr_len, type_off type_len str_off str_len: bytes, the offsets from the end of the header."""
_MAGIC, _VERSION = 0xEB9F, 1
_STRUCTS = {4, 5}
"""struct and union."""
_OTHER_NAMES = {8, 9, 10, 11, 18}
"""typedef, volatile, const, restrict, type_tag: a type by another name."""
_MORE = (0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0)
_EACH = (0, 0, 0, 0, 3, 3, 2, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 3)
"""Words of 32 bits that follow a type, by its kind: once, and for each of its members."""
_DEEPEST = 64
_REMEDY = "run a kernel with CONFIG_DEBUG_INFO_BTF"


class _Member(NamedTuple):
    """A member of a struct: its name ("" where it is anonymous), the number of its type, where it is in bits."""

    name: str
    type_id: int
    bits: int


class Btf:
    """The structs and unions of one file by their names; where several have one name, the first."""

    def __init__(self, raw: bytes, where: str = "it") -> None:
        """Find the types in `raw`, the content of file `where`. Raises BadInput EINVAL for what is no BTF."""
        self._where = where
        self._words, self._strings = self._parts(raw)
        try:
            self._starts = list(self._walk())
            self._ids = dict(self._named())
        except (IndexError, ValueError) as bad:
            raise self._broken("is broken") from bad

    @classmethod
    def read(cls, path: Path = VMLINUX) -> Self:
        """Read the file `path`. Raises NotAllowed where it is not to be had, BadInput where it is broken."""
        try:
            raw = path.read_bytes()
        except OSError as no:
            rule = f"cannot be read, {no.strerror}: {_REMEDY}"
            raise NotAllowed("btf", str(path), rule, no.errno or errno.EIO) from no
        return cls(raw, str(path))

    def __contains__(self, name: str) -> bool:
        return name in self._ids

    def size(self, name: str) -> int:
        """Return the bytes of struct or union `name`. Raises BadInput ENOENT where there is none."""
        if name not in self:
            raise BadInput("btf", f"struct {name}", f"is not in {self._where}", errno.ENOENT)
        return self._words[self._starts[self._ids[name]] + 2]

    def offset(self, path: str) -> int:
        """Return where in its struct the member is that `path` names, in bytes: "bio.bi_iter.bi_sector".

        Each name but the last is that of a struct; what is anonymous needs none, and no pointer is followed. Raises
        BadInput: ENOENT for what is not there, EINVAL for a bit field in the midst of a byte.
        """
        name, *members = path.split(".")
        type_id, bits = self._ids.get(name), 0
        try:
            for member in members:
                found = self._find(type_id, member, _DEEPEST)
                type_id, bits = (found.type_id, bits + found.bits) if found else (None, 0)
        except (IndexError, ValueError) as bad:
            raise self._broken("is broken") from bad
        if type_id is None:
            raise BadInput("btf", path, f"is not in {self._where}", errno.ENOENT)
        if bits % 8:
            raise BadInput("btf", path, f"is a bit field, {bits} bits from the beginning", errno.EINVAL)
        return bits // 8

    def _parts(self, raw: bytes) -> tuple["memoryview[int]", bytes]:
        """Return the words of the types, and the strings. Raises BadInput for another format or a part of a file."""
        if len(raw) < _HEADER.size:
            raise self._broken(f"has {len(raw)} bytes, less than a header")
        magic, version, _, head, type_off, type_len, str_off, str_len = _HEADER.unpack_from(raw)
        if (magic, version) != (_MAGIC, _VERSION):
            raise self._broken(
                f"begins with {magic:#x}, version {version}: not BTF of this machine, version {_VERSION}"
            )
        types, strings = raw[head + type_off :][:type_len], raw[head + str_off :][:str_len]
        if len(types) < type_len or len(strings) < str_len or type_len % 4:
            raise self._broken("is cut off")
        return memoryview(types).cast("I"), strings

    def _walk(self) -> Iterator[int]:
        """Yield the word at which each type begins, by its number; type 0 is void, and has none."""
        words, at, end = self._words, 0, len(self._words)
        yield end
        while at < end:
            yield at
            info = words[at + 1]
            kind = info >> 24 & 31
            at += 3 + _MORE[kind] + _EACH[kind] * (info & 0xFFFF)
        if at != end:
            raise IndexError(at)

    def _named(self) -> Iterator[tuple[str, int]]:
        """Yield name and number of every struct and union that has a name, the last one first."""
        words = self._words
        for type_id in range(len(self._starts) - 1, 0, -1):
            at = self._starts[type_id]
            if words[at] and words[at + 1] >> 24 & 31 in _STRUCTS:
                yield self._name(words[at]), type_id

    def _name(self, at: int) -> str:
        """Return the string at byte `at`."""
        return self._strings[at : self._strings.index(0, at)].decode()

    def _find(self, type_id: int | None, name: str, deep: int) -> _Member | None:
        """Return member `name` of type `type_id`, or of an anonymous one `deep` levels within it at most."""
        for member in self._members(type_id) if type_id is not None and deep else ():
            if member.name == name:
                return member
            inner = None if member.name else self._find(member.type_id, name, deep - 1)
            if inner is not None:
                return inner._replace(bits=member.bits + inner.bits)
        return None

    def _members(self, type_id: int) -> Iterator[_Member]:
        """Yield the members of type `type_id`, seen through its other names; none where it is no struct."""
        words, at = self._words, self._starts[type_id]
        for _ in range(_DEEPEST):
            if words[at + 1] >> 24 & 31 not in _OTHER_NAMES:
                break
            at = self._starts[words[at + 2]]
        info = words[at + 1]
        if info >> 24 & 31 not in _STRUCTS:
            return
        where = 0xFFFFFF if info >> 31 else 0xFFFFFFFF  # with kind_flag the upper eight are the size of a bit field
        for i in range(at + 3, at + 3 + 3 * (info & 0xFFFF), 3):
            yield _Member(self._name(words[i]), words[i + 1], words[i + 2] & where)

    def _broken(self, rule: str) -> BadInput:
        return BadInput("btf", self._where, rule, errno.EINVAL)


@cache
def vmlinux() -> Btf:
    """Return the types of the running kernel, read once. Raises NotAllowed, BadInput."""
    return Btf.read()


def struct_sizes(names: Iterable[str]) -> dict[str, int]:
    """Return the bytes of each struct of the running kernel by its name; those that it has not are absent."""
    types = vmlinux()
    return {name: types.size(name) for name in names if name in types}
