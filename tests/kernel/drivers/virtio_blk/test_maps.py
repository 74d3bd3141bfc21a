import pytest

from labkit.errors import SyscallError
from labkit.machine import Machine


def made(**knobs):
    with Machine(device="virtio", ram="128 MiB", fragmentation=1, size="64 KiB", **knobs) as machine:
        assert machine.run()["verified"]
        return machine, [rec for rec in machine.trace.records if type(rec).__name__ == "DmaMap"]


def test_without_the_dma_api_nothing_is_mapped_and_addresses_are_the_guests():
    _, maps = made(dma="direct")
    assert [(rec.maps, rec.ioptes, rec.dma == rec.phys) for rec in maps] == [(0, 0, True)]


@pytest.mark.parametrize("system", ["phyr", "page"])
def test_64_kib_of_scattered_pages_are_19_maps_and_never_one_range(system):
    machine, maps = made(iommu="strict", system=system)
    (rec,) = maps  # measured with iommu_platform=on: 16 segments, header, status and table
    assert (rec.maps, rec.how, len(rec.dma)) == (len(rec.phys) + 3, "phys", len(rec.phys))
    unmap = next(rec for rec in machine.trace.records if type(rec).__name__ == "DmaUnmap")
    assert unmap.syncs == rec.maps


def test_pages_of_another_machine_that_touch_for_the_guest_alone_are_bounced_one_by_one():
    _, (rec,) = made(dma="swiotlb", folio="foreign", system="page", kernel="6.18")
    assert {nbytes for _, nbytes in rec.phys} == {4096}
    assert len(rec.dma) == 16


def test_memory_of_another_machine_is_mapped_piece_by_piece_too():
    _, (rec,) = made(iommu="strict", folio="foreign", system="phyr")
    assert (rec.how, rec.maps, len(rec.dma)) == ("phys", len(rec.phys) + 3, len(rec.phys))
    assert len(rec.phys) > 1


def test_a_scatterlist_stands_between_where_pages_flow_and_only_there():
    found = {system: made(iommu="strict", system=system)[1][0] for system in ("phyr", "page")}
    assert (found["phyr"].conversions, found["phyr"].descriptor_bytes) == (0, 0)
    assert found["page"].conversions > 0
    assert found["page"].descriptor_bytes >= 32 * len(found["page"].phys)


def test_a_bounce_of_the_table_has_what_was_written_before():
    _, (rec,) = made(dma="swiotlb")
    assert rec.bounced == 65536 + 16 + 1 + 16 * (len(rec.phys) + 2)


def test_a_failure_at_any_map_takes_the_ones_before_it_back(monkeypatch):
    with Machine(device="virtio", ram="128 MiB", fragmentation=1, size="16 KiB", iommu="strict") as machine:
        used, real = machine.dma.iommu.mapped, machine.dma.map_phys
        for fail in range(1, 8):
            left = [fail]

            def map_phys(*args, left=left, **kwargs):
                left[0] -= 1
                if left[0] == 0:
                    raise SyscallError("iova", "no address", "is left", 5)
                return real(*args, **kwargs)

            monkeypatch.setattr(machine.dma, "map_phys", map_phys)
            machine.run()
            machine.clock.run()
            assert (machine.maps.held, machine.maps.own, machine.driver.outstanding) == ({}, {}, 0)
            assert machine.dma.iommu.mapped == used
            assert machine.driver.vring.num_free == 256
