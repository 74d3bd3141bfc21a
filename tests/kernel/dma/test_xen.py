import pytest

from labkit.errors import SyscallError
from labkit.hardware.iommu import Iommu
from labkit.hardware.ram import RAM
from labkit.kernel.dma.direct import DirectMap
from labkit.kernel.dma.iommu import IommuMap
from labkit.kernel.dma.ops import Attrs, DmaDevice, DmaDir
from labkit.kernel.dma.xen import XenMap

TO = DmaDir.TO_DEVICE
P2M = {7: 0x100, 8: 0x200, 9: 0x201, 33: 0x101}


def xen():
    return XenMap(DirectMap(), P2M)


def behind_iommu():
    ram = RAM(memoryview(bytearray(4 << 20)))
    for frame in range(1024):
        ram.view(frame << 12, 1)[0] = frame % 251
    iommu = Iommu(ram)
    inner = IommuMap(iommu, DmaDevice(), lambda _delay, _call: None, lambda _n: None, strict=True)
    return XenMap(inner, P2M), iommu


def test_a_frame_of_which_nothing_is_known_is_its_own():
    assert XenMap(DirectMap(), {}).map_phys(0x7000, 8192, TO) == 0x7000


def test_d_16_one_range_of_the_guest_is_cut_where_machine_frames_do_not_touch():
    assert xen().segments(((0x7000, 12288), (0x21000, 512))) == ((0x7000, 4096), (0x8000, 8192), (0x21000, 512))
    assert xen().map_sg(((0x7000, 12288), (0x21000, 512)), TO) == ((0x100000, 4096), (0x200000, 8192), (0x101000, 512))


def test_d_16_without_a_bounce_one_range_that_is_two_is_refused():
    assert xen().map_phys(0x8800, 4096, TO) == 0x200800
    with pytest.raises(SyscallError) as caught:
        xen().map_phys(0x7000, 8192, TO)
    assert str(caught.value) == "xen: 0x7000+8192 is 2 ranges of machine memory, and cannot be bounced (D-16) (-EIO)"


def test_memory_that_comes_with_machine_addresses_is_taken_as_it_is():
    assert xen().map_phys(0x7000, 8192, TO, Attrs.MACHINE) == 0x7000
    assert xen().map_sg(((0x7000, 8192),), TO, Attrs.MACHINE) == ((0x7000, 8192),)


def test_the_guest_learns_its_own_numbers_for_what_the_device_has():
    assert xen().phys_of([(0x100000, 4096), (0x200800, 4096)]) == ((0x7000, 4096), (0x8800, 4096))


def test_an_iommu_makes_one_range_of_it_again():
    ops, iommu = behind_iommu()
    before = ops.segments(((0x7000, 12288),))
    addr = ops.map_phys(0x7000, 12288, TO)
    assert before == ((0x7000, 12288),)
    assert [view[0] for page in range(3) for view in iommu.views(addr + page * 4096, 1)] == [0x100 % 251, 10, 11]
    assert ops.phys_of([(addr, 12288)]) == ((0x7000, 12288),)
    ops.unmap_phys(addr, 12288, TO)
    assert (iommu.mapped, ops.inner.iovas.used) == (0, 0)


def test_a_state_is_linked_by_machine_frames():
    ops, iommu = behind_iommu()
    state = ops.iova_try_alloc(0x7000, 12288)
    ops.iova_link(state, 0, 0x7000, 12288, dir=TO)
    ops.iova_sync(state)
    assert iommu.lookup(state.addr + 4096)[0] == 0x200000
    ops.iova_unlink(state, 4096, 8192)
    ops.iova_destroy(state, 4096)
    assert (iommu.mapped, ops.inner.iovas.used, ops.ioptes, ops.bounced) == (0, 0, 3, 0)


def test_a_link_that_fails_takes_its_own_pieces_out():
    ops, iommu = behind_iommu()
    state = ops.iova_try_alloc(0x7000, 4096)
    with pytest.raises(SyscallError, match="EIO"):
        ops.iova_link(state, 512, 0x7000, 512)
    ops.iova_free(state)
    assert (iommu.mapped, ops.inner.iovas.used) == (0, 0)
