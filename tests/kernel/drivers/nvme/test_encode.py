import errno

import pytest

from labkit.errors import SyscallError
from labkit.hardware.clock import Clock
from labkit.hardware.cpu import Cpu
from labkit.hardware.iommu import Iommu
from labkit.hardware.ram import RAM as MEMORY
from labkit.kernel.dma.iommu import IommuMap
from labkit.kernel.dma.ops import DmaDevice
from labkit.kernel.drivers.nvme.encode import DataPointer, Encoder, map_data
from labkit.kernel.drivers.nvme.prp import prp_entries, prp_lists, prp_pieces
from labkit.kernel.drivers.ops import Request
from labkit.kernel.drivers.rq_map import DmaMapping, RequestMaps
from labkit.kernel.version import KERNELS
from labkit.machine.build import DATA
from labkit.scatter.memory_class import RAM, MemoryClass

MIB, PAGE, KIB = 1 << 20, 4096, 1 << 10
ALL = list(KERNELS)
OLD, NEW = ["6.1", "6.12"], ["6.18", "7.3"]


def request(vecs, *, pages=True, cls=RAM):
    rq = Request(1, 1, 5, 16, (vecs, sum(nbytes for _, nbytes in vecs), len(vecs)), cls, write=True)
    rq.conversions = len(vecs) if pages else 0
    return rq


def ways(kernel, threshold=32 * KIB, sgl=True):
    return Encoder(KERNELS[kernel], threshold, sgl)


def scattered(count, nbytes=PAGE):
    return tuple((0x100000 + 2 * at * nbytes, nbytes) for at in range(count))


def general(kernel, vecs, how, threshold=32 * KIB, dma=None, pages=True):
    """Return the encoding of `vecs`, of the way that this kernel has them mapped."""
    one = ((0xFFF00000, sum(nbytes for _, nbytes in vecs)),)
    found = DmaMapping(dma or (one if how == "iova" else vecs), vecs, how)
    return ways(kernel, threshold).general(request(vecs, pages=pages), found, sg=how == "sg")


def test_worked_vector_v1_the_list_begins_after_the_first_page():
    assert prp_entries(((0x64200, 7680), (0x12C000, 1024))) == [0x64200, 0x65000, 0x12C000]


def test_worked_vector_v2_two_pages_need_no_list_and_are_simple():
    assert prp_entries(((0x64200, 4608),)) == [0x64200, 0x65000]
    assert ways("6.18").simple(request(((0x64200, 4608),))) == "prp"


def test_worked_vector_v3_eight_commands_of_one_segment_of_128_kib():
    assert {ways(kernel).simple(request(((0x200000, 128 * KIB),))) for kernel in ALL} == {"sgl1"}


@pytest.mark.parametrize(
    ("ranges", "entries"),
    [
        ((), []),
        (((0x7000, 512),), [0x7000]),
        (((0x7E00, 512),), [0x7E00]),
        (((0x7000, 4096),), [0x7000]),
        (((0x7E00, 1024),), [0x7E00, 0x8000]),
        (((0x7000, 12288),), [0x7000, 0x8000, 0x9000]),
        (((0x7000, 4096), (0x21000, 4096)), [0x7000, 0x21000]),
        (((0x7000, 8192), (0x21000, 512)), [0x7000, 0x8000, 0x21000]),
    ],
)
def test_every_entry_but_the_first_is_the_start_of_a_page(ranges, entries):
    assert prp_entries(ranges) == entries


@pytest.mark.parametrize("ranges", [((0x7000, 512), (0x21000, 512)), ((0x7000, 4096), (0x21200, 512))])
def test_a_gap_inside_a_page_is_an_incorrectly_formed_request(ranges):
    with pytest.raises(SyscallError, match=r"incorrectly formed request \(NVME-6\) \(-EIO\)") as caught:
        prp_entries(ranges)
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize(
    ("entries", "nbytes", "pieces"),
    [
        ([0x7E00], 512, [(0x7E00, 512)]),
        ([0x7E00, 0x9000, 0x2000], 5120, [(0x7E00, 512), (0x9000, 4096), (0x2000, 512)]),
    ],
)
def test_pieces_are_what_each_entry_stands_for(entries, nbytes, pieces):
    assert prp_pieces(entries, nbytes) == pieces
    assert DataPointer("prp", prps=entries).pieces(nbytes) == pieces


@pytest.mark.parametrize(
    ("entries", "chunks"),
    [(2, [2]), (32, [32]), (512, [512]), (513, [512, 2]), (1023, [512, 512]), (1024, [512, 512, 2])],
)
def test_a_full_list_gives_its_last_slot_to_the_next(entries, chunks):
    assert prp_lists(entries) == chunks


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize(
    ("vec", "encoding"),
    [((0x7000, 8192), "prp"), ((0x7200, 7680), "prp"), ((0x7200, 8192), "sgl1"), ((0x7000, 8704), "sgl1")],
)
def test_one_segment_is_prps_up_to_the_end_of_its_second_page(kernel, vec, encoding):
    assert ways(kernel).simple(request((vec,))) == encoding


@pytest.mark.parametrize(("kernel", "encoding"), [*((name, "") for name in OLD), *((name, "sgl1") for name in NEW)])
def test_a_long_segment_is_an_sgl_even_without_a_threshold_since_6_18(kernel, encoding):
    assert ways(kernel, threshold=0).simple(request(((0x7000, MIB),))) == encoding
    assert ways(kernel, threshold=0).simple(request(((0x7000, MIB),), pages=False)) == "sgl1"


@pytest.mark.parametrize("kernel", ALL)
def test_a_controller_without_sgls_gets_prps(kernel):
    assert ways(kernel, sgl=False).simple(request(((0x7000, MIB),))) == ""
    found = DmaMapping(((0x7000, MIB),), ((0x7000, MIB),), "phys")
    assert ways(kernel, sgl=False).general(request(((0x7000, MIB),)), found, sg=False) == "prp"


def test_memory_of_a_peer_is_never_simple():
    assert ways("7.3").simple(request(((0x7000, PAGE),), cls=MemoryClass("mmio", "gpu0"))) == ""


def test_the_average_is_over_vectors_in_6_1_over_what_was_mapped_in_6_12():
    vecs, one = scattered(16), ((0xFFF00000, 64 * KIB),)
    assert general("6.1", vecs, "sg", dma=one) == "prp"
    assert general("6.12", vecs, "sg", dma=one) == "sgl1"
    assert general("6.12", vecs, "sg") == "prp"
    assert general("6.1", scattered(4, 64 * KIB), "sg") == "sgl"


@pytest.mark.parametrize("kernel", NEW)
def test_since_6_18_it_is_over_one_where_the_device_sees_one_range(kernel):
    assert general(kernel, scattered(16), "iova") == "sgl1"
    assert general(kernel, scattered(16), "phys") == "prp"
    assert general(kernel, scattered(7), "iova") == "prp"
    assert general(kernel, scattered(8), "iova") == "sgl1"


@pytest.mark.parametrize(("threshold", "encoding"), [(0, "prp"), (1, "sgl"), (4096, "sgl"), (4097, "prp")])
def test_the_threshold_is_what_the_average_must_reach(threshold, encoding):
    assert general("6.18", scattered(4), "phys", threshold) == encoding


def test_the_average_is_rounded_up():
    vecs = ((0x7000, 4096), (0x21000, 512))
    assert general("6.18", vecs, "phys", 2304) == "sgl"
    assert general("6.18", ((0x7000, 4096), (0x21000, 4096), (0x31000, 512)), "phys", 2902) == "sgl"
    assert general("6.18", ((0x7000, 4096), (0x21000, 4096), (0x31000, 512)), "phys", 2903) == "prp"


@pytest.mark.parametrize(("kernel", "encoding"), [("6.18", "prp"), ("7.3", "sgl")])
@pytest.mark.parametrize("threshold", [0, 32 * KIB])
def test_a_gap_inside_a_page_takes_a_list_in_7_3_with_any_threshold(kernel, encoding, threshold):
    assert general(kernel, ((0x7000, 512), (0x21000, 512)), "phys", threshold) == encoding


def test_rule_nvme_7_adjacent_vectors_are_a_list_of_one_descriptor():
    vecs = tuple((0x7000 + 512 * at, 512) for at in range(8))
    assert general("7.3", vecs, "phys", dma=((0x7000, 4096),)) == "sgl"


@pytest.mark.parametrize(
    ("vecs", "sgl", "rule"),
    [
        (
            tuple((0x100000 + 8192 * at, 512) for at in range(257)),
            True,
            r"257 segments are more than the 256 .* \(NVME-7\)",
        ),
        (((0x7000, 512), (0x21000, 512)), False, r"is a gap inside a page: .* \(NVME-6\)"),
    ],
)
def test_what_no_command_can_tell_is_eio_and_is_not_mapped_any_more(vecs, sgl, rule):
    iommu = Iommu(MEMORY(memoryview(bytearray(PAGE))))
    ops = IommuMap(iommu, DmaDevice(max_segment_size=(1 << 32) - 1), Clock().later, print, strict=True)
    maps = RequestMaps(Clock(), Cpu.load(DATA / "cpu.toml"), ops, [].append)
    with pytest.raises(SyscallError, match=rule) as caught:
        map_data(request(vecs), maps, ways("7.3", sgl=sgl))
    assert caught.value.errno == errno.EIO
    assert (maps.held, ops.iovas.used, iommu.mapped) == ({}, 0, 0)


def test_without_struct_pages_every_kernel_takes_the_two_steps():
    assert all(ways(kernel).two_step(request(scattered(2), pages=False)) for kernel in ALL)
    assert [kernel for kernel in ALL if ways(kernel).two_step(request(scattered(2)))] == NEW
