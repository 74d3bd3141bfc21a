"""BPF as the kernel prints it becomes instructions of eight bytes (RFC 9669): 'r3 += 8', 'if w1 == 7 goto done'.

r is all 64 bits of a register, w the lower 32. 'call' takes the name of a helper, 'map' that of a map; a line that ends
in a colon is a label, and what follows a semicolon is a remark.
"""

import errno
import re
import struct
from collections.abc import Mapping
from typing import NamedTuple

from labkit.errors import BadInput

_HELPERS = {
    "map_lookup_elem": 1, "ktime_get_ns": 5, "get_current_pid_tgid": 14, "get_current_comm": 16,
    "probe_read_kernel": 113, "ringbuf_reserve": 131, "ringbuf_submit": 132,
}  # fmt: skip
"""enum bpf_func_id of uapi/linux/bpf.h."""
_SIZES = {"u32": 0x00, "u16": 0x08, "u8": 0x10, "u64": 0x18}
_SUMS = {"+": 0x00, "-": 0x10, "*": 0x20, "|": 0x40, "&": 0x50, "<<": 0x60, ">>": 0x70, "": 0xB0}
_TESTS = {"==": 0x10, ">": 0x20, ">=": 0x30, "!=": 0x50, "<": 0xA0, "<=": 0xB0}
_ALU64, _JMP, _JMP32, _X = 0x07, 0x05, 0x06, 0x08
_LDX, _STX, _ATOMIC, _JA, _CALL, _EXIT, _LD_IMM64, _PSEUDO_MAP_FD = 0x61, 0x63, 0xC3, 0x05, 0x85, 0x95, 0x18, 1
_AT = r"\*\((?P<size>\w+) \*\)\(r(?P<base>\d+) (?P<sign>[+-]) (?P<off>\d+)\)"
_VALUE = r"(?:r(?P<src>\d+)|(?P<imm>-?\d+))"
_KINDS = {
    kind: re.compile(pattern)
    for kind, pattern in {
        "load": rf"r(?P<dst>\d+) = {_AT}",
        "store": rf"{_AT} = r(?P<src>\d+)",
        "lock": rf"lock {_AT} \+= r(?P<src>\d+)",
        "map": r"r(?P<dst>\d+) = map (?P<name>\w+)",
        "sum": rf"r(?P<dst>\d+) (?P<op>\+|-|\*|\||&|<<|>>|)= {_VALUE}",
        "if": rf"if (?P<width>[rw])(?P<dst>\d+) (?P<op>[=!<>]=|[<>]) {_VALUE} goto (?P<goto>\w+)",
        "goto": r"goto (?P<goto>\w+)",
        "call": r"call (?P<name>\w+)",
        "exit": r"exit",
    }.items()
}


class _Insn(NamedTuple):
    """One instruction; `goto` names the label that its offset leads to."""

    code: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0
    goto: str = ""


def assemble(source: str, maps: Mapping[str, int] | None = None) -> bytes:
    """Return the instructions of `source`; `maps`: an fd for each name of a map. Raises BadInput EINVAL."""
    code, labels = list[_Insn](), dict[str, int]()
    for line in (line.partition(";")[0].strip() for line in source.splitlines()):
        if line.endswith(":"):
            labels[line[:-1]] = len(code)
        elif line:
            code += _encoded(line, maps or {})
    try:
        return b"".join(_packed(insn, labels[insn.goto] - at - 1 if insn.goto else insn.off)
                        for at, insn in enumerate(code))  # fmt: skip
    except KeyError as lost:
        raise BadInput("bpf", f"goto {lost.args[0]}", "leads to no label", errno.EINVAL) from None


def _packed(insn: _Insn, off: int) -> bytes:
    return struct.pack("=BBhi", insn.code, insn.dst | insn.src << 4, off, insn.imm)


def _encoded(line: str, maps: Mapping[str, int]) -> list[_Insn]:
    """Return the instructions of one line: two for the fd of a map, else one."""
    for kind, pattern in _KINDS.items():
        if found := pattern.fullmatch(line):
            try:
                return _insns(kind, found.groupdict(), maps)
            except KeyError as unknown:
                raise BadInput("bpf", line, f"names {unknown.args[0]!r}, which is unknown", errno.EINVAL) from None
    raise BadInput("bpf", line, "is no instruction", errno.EINVAL)


def _insns(kind: str, part: Mapping[str, str | None], maps: Mapping[str, int]) -> list[_Insn]:
    """Return what the parts of a line of `kind` are. Raises KeyError for an unknown name."""
    dst, src, base, imm, off = (int(part.get(name) or 0) for name in ("dst", "src", "base", "imm", "off"))
    name, op, goto, x = part.get("name") or "", part.get("op") or "", part.get("goto") or "", _X * bool(part.get("src"))
    size, off = _SIZES[part.get("size") or "u32"], -off if part.get("sign") == "-" else off
    match kind:
        case "load":
            insn = _Insn(_LDX | size, dst, base, off)
        case "store" | "lock":
            insn = _Insn((_STX if kind == "store" else _ATOMIC) | size, base, src, off)
        case "map":
            insn = _Insn(_LD_IMM64, dst, _PSEUDO_MAP_FD, 0, maps[name])
        case "sum":
            insn = _Insn(_ALU64 | x | _SUMS[op], dst, src, 0, imm)
        case "if":
            insn = _Insn((_JMP if part["width"] == "r" else _JMP32) | x | _TESTS[op], dst, src, 0, imm, goto)
        case "goto":
            insn = _Insn(_JA, goto=goto)
        case "call":
            insn = _Insn(_CALL, imm=_HELPERS[name])
        case _:
            insn = _Insn(_EXIT)
    return [insn, _Insn(0)] if kind == "map" else [insn]
