import pytest

from labkit.errors import SyscallError
from labkit.kernel.drivers.cpu_access import check_mapped
from labkit.kernel.drivers.ops import Request
from labkit.scatter.memory_class import RAM, MemoryClass


def rq(cls, nbytes=512):
    return Request(1, 1, 0, 0, (((0x1000, nbytes),) if nbytes else (), nbytes, 1), cls, write=True)


@pytest.mark.parametrize("cls", [RAM, MemoryClass("mmio", "gpu0")])
def test_ram_and_a_bar_are_within_reach(cls):
    check_mapped("null_blk", rq(cls))


def test_a_flush_has_no_memory_to_reach():
    check_mapped("null_blk", rq(MemoryClass("foreign", "dom0"), 0))


def test_what_is_not_is_refused_in_one_sentence():
    with pytest.raises(SyscallError) as caught:
        check_mapped("pmem", rq(MemoryClass("foreign", "dom0")))
    assert str(caught.value) == (
        "pmem: 512 bytes of foreign memory of dom0 are not mapped for the CPU, which must copy them (D-14) (-EINVAL)"
    )
