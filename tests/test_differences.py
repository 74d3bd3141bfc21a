"""A difference of two systems is known by its rule, in every detail of it, or not at all."""

import pytest

from labkit.machine.compare import compare
from labkit.machine.differences import Came, differences, reason
from labkit.scenario import Scenario

GUP = "gup: addr=0x7f0000001000 is not mapped (MM-4) (-EFAULT)"
OFF = "pread64: buf=0x7f0000000002 is not a multiple of 4 (O_DIRECT, ITER-5) (-EINVAL)"
CRYPT = (
    "crypt0: 4096 bytes of foreign memory of xen are not mapped for the CPU, which must encrypt them (D-14) (-EINVAL)"
)
POS = "pread64: pos=100 + count=3996 is not a multiple of 512 (O_DIRECT, DIO-10) (-EINVAL)"
FAULT, INVAL = ("-EFAULT", GUP), ("-EINVAL", OFF)
HOLE = {"fs": "ext4", "extents": "hole"}


@pytest.mark.parametrize(
    ("knobs", "page", "phyr", "words"),
    [
        ({"size": 8192}, (4096,), FAULT, "(D-4)"),
        ({"size": 8192}, (4096,), ("-ENOMEM", "mm: a block is not to be had (-ENOMEM)"), "(D-4)"),
        ({"size": 8192}, (8192,), FAULT, ""),
        ({"size": 8192}, (0,), FAULT, ""),
        ({"size": 8192}, (4096,), ("-EIO", "/dev/nvme0n1: a request failed (-EIO)"), ""),
        ({"size": 8192}, (4096,), INVAL, ""),
        ({"size": 8192}, (4096,), (8192,), ""),
        ({"size": 8192}, FAULT, (4096,), ""),
        (HOLE, (1 << 20,), FAULT, "(D-5, DIO-15)"),
        (HOLE, (1 << 20,), INVAL, "(D-5, DIO-15)"),
        (HOLE, FAULT, (1 << 20,), ""),
        (HOLE, (1 << 20,), ("-EIO", "file: a request failed (-EIO)"), ""),
        (HOLE, (1 << 20,), ("-EINVAL", POS), ""),
        (HOLE | {"op": "write"}, (1 << 20,), FAULT, ""),
        (HOLE | {"extents": "mapped"}, (1 << 20,), FAULT, ""),
        ({"folio": "gpu"}, FAULT, (1 << 20,), "gpu memory is nothing that pages can do IO with (data/kinds.toml)"),
        ({"folio": "gpu"}, FAULT, ("-EINVAL", CRYPT), "(data/kinds.toml)"),
        ({"folio": "gpu", "api": "io_uring-fixed"}, FAULT, ("-EINVAL", POS), "(data/kinds.toml)"),
        ({"folio": "gpu"}, FAULT, ("-EINVAL", POS), ""),
        ({"op": "write", "fs": "xfs", "extents": "shared", "size": 512}, (512,), FAULT, "(D-6, DIO-8)"),
        ({"op": "write", "fs": "xfs", "extents": "shared", "size": 4096}, (4096,), FAULT, ""),
        ({"folio": "gpu"}, ("-EINVAL", GUP), (1 << 20,), ""),
        ({"folio": "gpu"}, ("-EFAULT", "nvme: somewhere else (-EFAULT)"), (1 << 20,), ""),
        ({"folio": "gpu"}, (1 << 20,), FAULT, ""),
        ({"folio": "memfd"}, FAULT, (1 << 20,), ""),
        ({"stack": "crypt", "folio": "foreign"}, (1 << 20,), ("-EINVAL", CRYPT), "(D-14)"),
        ({"folio": "foreign"}, (1 << 20,), ("-EINVAL", CRYPT), ""),
        ({"kernel": "6.18", "size": 512, "skew": 2}, ("-EIO", ""), INVAL, "(R8, ITER-5)"),
        ({"kernel": "6.18", "size": 512, "skew": 2}, (512,), INVAL, "(R8, ITER-5)"),
        ({"kernel": "6.18", "size": 8192, "skew": 2}, ("-EIO", ""), INVAL, ""),
        ({"kernel": "6.18", "size": 512}, ("-EIO", ""), FAULT, ""),
        ({"kernel": "7.3", "size": 512, "skew": 2}, ("-EIO", ""), INVAL, ""),
        ({}, ("-EINVAL", POS), FAULT, "looks at the memory before the file (D-6)"),
        ({}, ("-EAGAIN", "iomap: file would have to allocate (NOWAIT) (-EAGAIN)"), INVAL, "(D-6)"),
        ({}, ("-EIO", "nvme: a request failed (-EIO)"), FAULT, ""),
        ({}, FAULT, ("-EINVAL", POS), ""),
        ({"direct": False}, ("-EINVAL", POS), FAULT, ""),
    ],
)  # fmt: skip
def test_a_difference_is_known_by_its_rule_or_not_at_all(knobs, page, phyr, words):
    page, phyr = Came("page", *page), Came("phyr", *phyr)
    why = reason(Scenario.of(knobs), page, phyr)
    assert why.endswith(words)
    assert bool(why) is bool(words)
    assert reason(Scenario.of(knobs), phyr, page) == why


DMABUF = "premapped: fs=ext4 takes no device addresses: the raw device of NVMe alone does (DMABUF-1) (-EOPNOTSUPP)"
REFUSED = "gup: addr=0x7f0000000000 is secretmem, which nobody may pin (MM-4) (-EFAULT)"


@pytest.mark.parametrize(
    ("knobs", "page", "premapped", "words"),
    [
        ({"fs": "ext4"}, (4096,), ("-EOPNOTSUPP", DMABUF), "(DMABUF-1)"),
        ({}, (4096,), ("-EOPNOTSUPP", "nvme0n1: NOWAIT is not for it (BLK-2) (-EOPNOTSUPP)"), ""),
        ({"folio": "fsdax"}, (4096,), ("-EOPNOTSUPP", REFUSED.replace("EFAULT", "EOPNOTSUPP")), "(REG-1)"),
        ({"buffer": "readonly"}, (4096,), FAULT, "(REG-1)"),
        ({"size": 4096}, (4096,), FAULT, ""),
        ({"folio": "gpu"}, FAULT, (1 << 20,), "gpu memory is nothing that pages can do IO with (data/kinds.toml)"),
        ({"size": 8192}, (4096,), FAULT, "(D-4)"),
    ],
)
def test_what_is_mapped_beforehand_differs_by_its_own_rules(knobs, page, premapped, words):
    page, premapped = Came("page", *page), Came("premapped", *premapped)
    why = reason(Scenario.of(knobs), page, premapped)
    assert why.endswith(words)
    assert bool(why) is bool(words)
    assert reason(Scenario.of(knobs), premapped, page) == why


def test_rule_d4_chunks_too_have_moved_a_part():
    whole, parts = Came("unified", *FAULT), Came("phyr", 4096)
    assert reason(Scenario.of({"size": 8192, "chunk": 1}), whole, parts).endswith("(D-4)")
    assert reason(Scenario.of({"size": 8192}), whole, parts) == ""


def report(result, *, verified=True):
    return {"result": result, "verified": verified, "error": None}


@pytest.mark.parametrize(
    ("one", "other", "words"), [(True, True, []), (True, False, ["one of them"]), (False, False, ["both"])]
)
def test_bytes_that_did_not_arrive_are_no_equal_result(one, other, words):
    told = differences(Scenario.of({}), {"page": report(4096, verified=one), "phyr": report(4096, verified=other)})
    assert [known for _, known in told] == [False] * len(words)
    assert all(word in text for word, (text, _) in zip(words, told, strict=True))


SMALL = {"ram": "512 MiB", "seed": 9}


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"size": 512, "offset": 100, "buffer": "unmapped", "fs": "xfs", "op": "write"}, "(D-6)"),
        ({"size": "64 KiB", "skew": 1, "fs": "ext4", "extents": "hole"}, "(D-5, DIO-15)"),
        ({"size": 4096, "op": "write", "folio": "foreign", "stack": "crypt", "systems": ("page", "phyr")}, "(D-14)"),
        ({"size": 512, "skew": 4, "kernel": "6.18", "limits": {"dma_alignment": 511}}, "(R8, ITER-5)"),
        ({"size": 512, "skew": 4, "op": "write", "folio": "gpu", "limits": {"dma_alignment": 511}, "kernel": "6.18"},
         "(D-6)"),
    ],
)  # fmt: skip
def test_real_runs_differ_by_the_rule_that_says_so(knobs, words):
    found = compare(**SMALL | knobs)
    assert found.equal
    assert found.differences
    assert all(text.endswith(words) for text in found.differences)
