import itertools
import struct

import pytest

from labkit.errors import BadInput, NotAllowed
from labkit.host.watch import btf
from labkit.host.watch.btf import VMLINUX, Btf

INT, PTR, STRUCT, UNION, TYPEDEF, CONST = 1, 2, 4, 5, 8, 10
NAMES = ["", "int", "bio", "a", "b", "c", "iter", "iter_t", "sector", "bits", "again"]
STRINGS = "\0".join([*NAMES, ""]).encode()
NAMED = dict(zip(NAMES, itertools.accumulate([0, *(len(name) + 1 for name in NAMES)]), strict=False))


def plain(kind, name, size_or_type, *more):
    return struct.pack(f"=3I{len(more)}I", NAMED[name], kind << 24, size_or_type, *more)


def record(kind, name, size, *members, bits=False):
    """A struct or union; members are name, type and place in bits."""
    head = struct.pack("=3I", NAMED[name], bits << 31 | kind << 24 | len(members), size)
    return head + b"".join(struct.pack("=3I", NAMED[member], type_id, at) for member, type_id, at in members)


def file(*types, strings=STRINGS, magic=0xEB9F, version=1):
    body = b"".join(types)
    return struct.pack("=HBBIIIII", magic, version, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


TYPES = (
    plain(INT, "int", 4, 32),  # 1: u32
    record(STRUCT, "iter", 16, ("sector", 1, 64)),  # 2
    plain(TYPEDEF, "iter_t", 2),  # 3
    plain(CONST, "", 3),  # 4: const iter_t
    record(UNION, "", 16, ("b", 1, 0), ("c", 4, 0)),  # 5: anonymous
    plain(PTR, "", 2),  # 6: struct iter *
    record(STRUCT, "bio", 40, ("a", 6, 0), ("", 5, 64), ("iter", 4, 192)),  # 7
    record(STRUCT, "bits", 8, ("a", 1, 32), ("b", 1, 4 << 24 | 36), bits=True),  # 8
    record(STRUCT, "bio", 99),  # 9: another of the same name
)


@pytest.fixture
def types():
    return Btf(file(*TYPES))


def test_a_struct_has_its_size_and_the_first_of_two_is_meant(types):
    assert (types.size("iter"), types.size("bio"), types.size("bits")) == (16, 40, 8)
    assert "bio" in types
    assert "iter_t" not in types


@pytest.mark.parametrize(
    ("path", "offset"),
    [("bio.a", 0), ("bio.b", 8), ("bio.c", 8), ("bio.c.sector", 16), ("bio.iter", 24), ("bio.iter.sector", 32),
     ("iter.sector", 8), ("bits.a", 4)],
)  # fmt: skip
def test_a_member_is_found_through_what_is_anonymous_and_through_other_names(types, path, offset):
    assert types.offset(path) == offset


@pytest.mark.parametrize("path", ["nothing", "nothing.a", "bio.sector", "bio.b.sector", "bio.a.sector", "bio.iter.b"])
def test_what_is_not_there_is_bad_input_and_no_pointer_is_followed(types, path):
    with pytest.raises(BadInput, match=rf"btf: {path} is not in it \(-ENOENT\)"):
        types.offset(path)


def test_a_bit_field_in_the_midst_of_a_byte_has_no_offset_in_bytes(types):
    with pytest.raises(BadInput, match=r"btf: bits.b is a bit field, 36 bits from the beginning \(-EINVAL\)"):
        types.offset("bits.b")


@pytest.mark.parametrize("members", [0, 1, 3])
@pytest.mark.parametrize("kind", range(20))
def test_a_type_of_any_kind_is_passed_over(kind, members):
    each = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
    once = {1: 4, 3: 12, 14: 4, 17: 4}
    odd = struct.pack("=3I", 0, kind << 24 | members, 0) + bytes(once.get(kind, 0) + each.get(kind, 0) * members)
    assert Btf(file(odd, odd, record(STRUCT, "bio", 77))).size("bio") == 77


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "has 0 bytes, less than a header"),
        (file(*TYPES, magic=0x9FEB), "begins with 0x9feb, version 1: not BTF of this machine, version 1"),
        (file(*TYPES, version=2), "begins with 0xeb9f, version 2"),
        (file(*TYPES)[:-1], "is cut off"),
        (file(*TYPES)[:100], "is cut off"),
        (file(b"xyz"), "is cut off"),
        (file(TYPES[-2][:-4]), "is broken"),
        (file(struct.pack("=3I", 0, 20 << 24, 0)), "is broken"),
        (file(TYPES[1], strings=b"\0int"), "is broken"),
        (file(TYPES[1], strings=b"\0int\0bio\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0"), "is broken"),
    ],
)
def test_a_broken_file_is_bad_input(raw, why):
    with pytest.raises(BadInput, match=rf"btf: x {why}.*\(-EINVAL\)"):
        Btf(raw, "x")


@pytest.mark.parametrize(
    "types",
    [
        (record(STRUCT, "bio", 8, ("", 99, 0)),),
        (record(STRUCT, "bio", 8, ("", 1 << 31, 0)),),
        (plain(TYPEDEF, "a", 99), record(STRUCT, "bio", 8, ("", 1, 0))),
        (struct.pack("=6I", NAMED["bio"], STRUCT << 24 | 1, 8, 9999, 1, 0),),
    ],
)
def test_a_number_that_leads_out_of_the_file_is_bad_input(types):
    with pytest.raises(BadInput, match="btf: it is broken"):
        Btf(file(*types)).offset("bio.b")


@pytest.mark.parametrize(
    "types",
    [(record(STRUCT, "bio", 8, ("", 1, 0)),), (record(STRUCT, "bio", 8, ("", 2, 0)), plain(TYPEDEF, "a", 2))],
)
def test_types_that_go_round_in_a_circle_come_to_an_end(types):
    with pytest.raises(BadInput, match=r"bio.b is not in it \(-ENOENT\)"):
        Btf(file(*types)).offset("bio.b")


def test_a_file_that_is_not_there_is_not_allowed_and_the_remedy_is_named(tmp_path):
    with pytest.raises(NotAllowed, match=r"cannot be read, No such .*: run a kernel with CONFIG_DEBUG_INFO_BTF"):
        Btf.read(tmp_path / "vmlinux")


@pytest.fixture
def kernel():
    if not VMLINUX.exists():
        pytest.skip("this kernel does not describe its structs")
    return btf.vmlinux()


def test_the_running_kernel_tells_its_sizes_and_none_of_what_it_has_not(kernel):
    sizes = btf.struct_sizes(["bio_vec", "page", "scatterlist", "bio", "no_such_struct"])
    assert list(sizes) == ["bio_vec", "page", "scatterlist", "bio"]
    assert (sizes["bio_vec"], sizes["scatterlist"]) == (16, 32)
    assert sizes["page"] in {56, 64, 80, 96}
    assert kernel.size("bio") == sizes["bio"] > kernel.offset("bio.bi_io_vec")


def test_a_bio_of_the_running_kernel_has_an_iterator_inside(kernel):
    inside = [kernel.offset(f"bio.bi_iter.{name}") for name in ("bi_sector", "bi_size", "bi_idx", "bi_bvec_done")]
    start = kernel.offset("bio.bi_iter")
    assert sorted(inside) == inside
    assert (inside[0], inside[-1] - start) == (start, 16)
    assert kernel.offset("folio.page") == 0
    assert kernel.offset("folio._refcount") == kernel.offset("page._refcount")
