import os
import re

import pytest

from labkit.errors import NotAllowed
from labkit.host.watch import btf
from labkit.host.watch.bpf import calls, program
from labkit.host.watch.bpf.assembler import assemble

MAPS = {"ring": 3, "lost": 4}


class Types:
    """A kernel whose structs are told by what is asked."""

    def __init__(self, **other):
        self.known = {"bio_vec": 16} | other

    def size(self, name):
        return self.known[name]

    def offset(self, path):
        return self.known.get(path, 8)


def test_each_device_is_compared_with_in_32_bits():
    text = program.source([7 << 20 | 3, 3000 << 20], Types())
    assert re.findall(r"if w9 == (-?\d+) goto watched", text) == ["7340035", "-1149239296"]


def test_members_are_read_where_the_kernel_says_that_they_are():
    text = program.source([1], Types(**{"bio.bi_opf": 4711, "bio_vec.bv_len": 12}))
    assert text.count("r3 += 4711") == 1
    assert f"r1 = *(u32 *)(r1 + {program.HEAD.itemsize + 12})" in text


def test_a_record_has_room_for_256_vectors_of_any_size():
    for size in (16, 24):
        text = program.source([1], Types(bio_vec=size))
        assert f"r2 = {program.HEAD.itemsize + 256 * size}\n    r3 = 0\n    call ringbuf_reserve" in text
        assert f"if r9 >= {256 * size} goto done" in text


def test_what_stands_before_the_vectors_is_a_whole_number_of_words():
    assert program.HEAD.itemsize % 8 == 0


@pytest.mark.host
def test_the_kernel_takes_the_program_and_only_under_a_licence_that_the_gpl_allows(monkeypatch):
    try:
        maps = {"ring": calls.map_create(calls.RINGBUF, 0, 0, 1 << 20), "lost": calls.map_create(calls.ARRAY, 4, 8, 1)}
        code = assemble(program.source([7 << 20], btf.vmlinux()), maps)
        program_fd = calls.load(code, "labkit_test")
    except NotAllowed as no:
        pytest.skip(str(no))
    monkeypatch.setattr(calls, "_LICENSE", b"Proprietary")
    with pytest.raises(NotAllowed, match="the program labkit_test is refused, Invalid argument"):
        calls.load(code, "labkit_test")
    for fd in (*maps.values(), program_fd):
        os.close(fd)
