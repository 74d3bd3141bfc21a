"""What each command of a drive says: predicted by the driver's own code, against the bytes that the real one wrote."""

import errno

import pytest

from labkit.errors import BadInput
from labkit.kernel.drivers.nvme.driver import sqe_of
from labkit.kernel.drivers.nvme.lists import Written
from labkit.kernel.drivers.ops import Request
from labkit.witness.capture import Capture
from labkit.witness.predict import predict


def commands(row):
    return predict(Capture.of(row)).nvme


def dptr(row):
    """Return the data pointer that a real driver wrote, where the encoding leads to no memory of its own."""
    return int.from_bytes(row[24:32], "little"), int.from_bytes(row[32:40], "little")


def test_requests_are_of_as_many_segments_and_gaps_as_the_kernel_counted(real):
    if not real["format"].endswith("+nvme"):
        pytest.skip("no drive")
    issued = [(bio["bytes"], bio["segs"]) for bio in real["bios"] if bio["kind"] == "issue"]
    found = commands(real)
    assert [(row.nbytes, row.segments) for row in found] == issued
    if real["kernel"].startswith("7.3"):
        assert [row.gap for row in found] == [bio["gap"] for bio in real["bios"] if bio["kind"] == "issue"]


def test_the_64_bytes_are_those_of_the_real_driver(real):
    if not real["format"].endswith("+nvme") or "sqe" not in str(real["nvme"]):
        pytest.skip("no command was read from memory")
    for mine, theirs in zip(commands(real), real["nvme"], strict=True):
        raw = bytes.fromhex(theirs.get("sqe") or "00" * 64)
        if not any(raw):
            continue
        low, high = dptr(raw)
        if mine.sure == "all" and mine.encoding != "sgl":
            assert mine.addrs[0][0] == low
        if mine.encoding == "sgl1":
            assert high == mine.nbytes
        rq = Request(1, 1, theirs["cid"], mine.slba, (((0, mine.nbytes),), mine.nbytes, 1), write=theirs["opc"] == 1)
        assert sqe_of(rq, mine.encoding, Written(low, high)) == raw


@pytest.mark.parametrize(
    ("name", "encoding", "pieces"),
    [
        ("105", "sgl1", [[0x6E00800, 8192]]),
        ("111", "sgl", [[0x7FE7A000, 512], [0x7FE3F000, 512]]),
        ("610", "prp", [[0xF410C000, 4096]]),
    ],
)
def test_without_an_iommu_the_addresses_are_those_of_the_real_device(name, encoding, pieces, captured):
    row = captured(name)
    ((*_, theirs),) = [[each["addrs"]] for each in row["nvme"]]
    (mine,) = commands(row)
    assert (mine.encoding, mine.addrs, mine.sure) == (encoding, theirs, "all")
    assert [n for _, n in mine.addrs] == [n for _, n in pieces]


@pytest.mark.parametrize(("threshold", "encoding"), [(0, "prp"), (4096, "sgl"), (4097, "prp")])
def test_the_threshold_of_the_module_decides(threshold, encoding, captured):
    row = captured("202")  # 8 KiB in three pages of 3584, 4096 and 512 bytes, each bounced for itself
    row["config"]["nvme_params"] = f"poll_queues=0 sgl_threshold={threshold if threshold != 4096 else 2731}"
    (mine,) = commands(row)
    assert mine.encoding == encoding
    assert [n for _, n in mine.addrs] == [3584, 4096, 512]


def test_four_mebibytes_are_1024_prps_and_no_more_than_a_pool_of_two_lists(captured):
    row = captured("109")
    row["limits"] |= {"max_hw_sectors_kb": 4096, "max_sectors_kb": 4096, "max_segments": 1024}
    row["layout"] = {"before": [[0x7F0000000000 + at * 4096, 0x10000 + 2 * at, 1] for at in range(1024)]}
    row["io"] = [row["io"][0] | {"iov": [[0x7F0000000000, 4 << 20]], "pos": 0}]
    found = [piece for mine in commands(row) for piece in mine.addrs]
    assert found == [[(0x10000 + 2 * at) << 12, 4096] for at in range(1024)]
    assert {mine.encoding for mine in commands(row)} == {"prp"}


@pytest.mark.parametrize(
    ("topology", "cpu", "iommu", "provider", "result", "sure"),
    [
        ("switch", "max", "none", "peer", 4096, "all"),
        ("switch", "max", "intel", "peer", 4096, "all"),  # the address on the bus is never translated
        ("flat", "EPYC", "none", "peer", 4096, "all"),
        ("flat", "EPYC", "intel", "peer", 4096, "depth"),
        ("flat", "max", "none", "peer", -errno.EINVAL, None),
        ("flat", "max", "none", "own", 4096, "all"),
    ],
)
def test_rule_p2p_2_the_way_to_a_peer_is_that_of_the_tree(topology, cpu, iommu, provider, result, sure, captured):
    row = captured("610")
    row["config"] |= {"topology": topology, "cpu": cpu, "iommu": iommu, "provider": provider}
    found = predict(Capture.of(row))
    assert found.result == [result]
    assert [mine.sure for mine in found.nvme] == ([sure] if sure else [])


@pytest.mark.parametrize("wrong", [{"mode": "magic"}, {"nvme_params": "sgl_threshold=many"}])
def test_a_configuration_that_is_none_is_one_sentence(wrong, captured):
    row = captured("001")
    row["config"] |= wrong
    with pytest.raises(BadInput, match=r"^capture: 001-7.3-strict-512 has (mode|nvme_params)="):
        commands(row)


@pytest.mark.parametrize(
    ("cmdline", "mode"),
    [
        ("quiet intel_iommu=on iommu.strict=1", "strict"),
        ("quiet intel_iommu=on", "lazy"),
        ("intel_iommu=on iommu=pt", "none"),
        ("iommu.strict=1 swiotlb=force", "swiotlb"),
        (None, "none"),
    ],
)
def test_without_a_configuration_the_command_line_of_the_kernel_tells(cmdline, mode, captured):
    row = captured("007") | {"config": None, "cmdline": cmdline}
    assert Capture.of(row).mode == mode
    assert len(commands(row)[0].addrs) == (1 if mode in {"strict", "lazy"} else 16)


def test_the_threshold_may_stand_on_the_command_line(captured):
    row = captured("202") | {"config": {"mode": "swiotlb"}, "cmdline": "quiet nvme.sgl_threshold=2731"}
    assert commands(row)[0].encoding == "sgl"


def test_what_is_no_capture_of_a_drive_has_no_commands(captured):
    assert predict(Capture.of(captured("01"))).nvme is None
