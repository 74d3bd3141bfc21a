"""machine/build/dma.py: which way a device of a scenario has to memory."""

import pytest

from labkit.errors import BadInput
from labkit.hardware.device import BusFault
from labkit.hardware.pcie import RootComplex
from labkit.kernel.dma.direct import DirectMap
from labkit.kernel.dma.iommu import IommuMap
from labkit.kernel.dma.xen import XenMap
from labkit.machine import Machine

MIB = 1 << 20


def built(**knobs):
    return Machine(**{"size": "64 KiB", "ram": "64 MiB", **knobs})


def pool_of(machine):
    return machine.dma.swiotlb


@pytest.mark.parametrize(
    ("knobs", "kind"),
    [({"iommu": "off"}, DirectMap), ({}, IommuMap), ({"dma": "swiotlb"}, DirectMap), ({"dma": "xen"}, XenMap)],
)
def test_the_backend_of_a_scenario_is_what_its_device_maps_by(knobs, kind):
    with built(**knobs) as machine:
        assert type(machine.dma) is kind
        assert machine.run()["verified"] is True


def test_iova_2_no_device_address_is_that_of_a_bar_plugged_in_before_or_later():
    with built(iommu="strict", ram="4 GiB") as machine:
        start = machine.dma.iovas.alloc(1) - 64 << 12
        machine.pcie.plug("late0", start, 1 << 16)
        taken = {machine.dma.iovas.alloc(1) << 12 for _ in range(128)}
    assert min(taken) < start
    assert taken.isdisjoint(range(start, start + (1 << 16), 4096))


def test_a_pool_is_there_where_all_is_bounced_or_the_mask_is_too_small_for_ram():
    for knobs, slots in (
        ({"dma": "direct"}, None),
        ({"dma": "direct", "device_mask": 32}, None),
        ({"dma": "direct", "device_mask": 32, "ram": "4 GiB"}, 32768),
        ({"dma": "swiotlb"}, 2048),
        ({"dma": "swiotlb", "ram": "4 GiB"}, 32768),
    ):
        with built(**knobs) as machine:
            pool = pool_of(machine)
            assert (pool and len(pool.segments) * 128) == slots
            assert pool is None or max(pool.segments) < 1 << 32


def test_a_device_of_32_bits_reaches_memory_above_four_gibibytes_by_bounces_alone():
    with built(dma="direct", device_mask=32, ram="4 GiB", size="1 MiB") as machine:
        result = machine.run()
        found = [rec for rec in machine.trace.records if type(rec).__name__ == "SwiotlbBounced"]
    assert result["verified"] is True
    assert sum(rec.len for rec in found) == MIB
    assert all(rec.phys >= 1 << 32 > rec.slot for rec in found)


@pytest.mark.parametrize(("dma", "kernel", "stride"), [("swiotlb", "6.1", 8192), ("swiotlb", "7.3", 4096)])
def test_swi_2_the_kernel_of_the_scenario_says_how_far_bounced_pages_are_apart(dma, kernel, stride):
    with built(dma=dma, kernel=kernel, system="page", size="4 KiB", count=2) as machine:
        machine.run()
        first, second = [r.slot for r in machine.trace.records if type(r).__name__ == "SwiotlbBounced"][:2]
    assert second - first == stride


@pytest.mark.parametrize("dma", ["direct", "iommu", "xen"])
def test_a_mask_that_reaches_no_queue_builds_no_machine(dma):
    with pytest.raises(BadInput, match="device_mask=16"):
        built(dma=dma, device_mask=16)


@pytest.mark.parametrize("route", ["switch", "bridge", "none"])
@pytest.mark.parametrize("dma", ["direct", "iommu", "xen"])
def test_memory_of_a_gpu_is_reached_by_the_route_of_the_scenario(route, dma):
    with built(folio="gpu", route=route, dma=dma) as machine:
        result = machine.run()
        how = [(rec.how, rec.dma == rec.phys) for rec in machine.trace.records if type(rec).__name__ == "DmaMap"]
        told = machine.pcie.told()
    assert told["routes"] == {"gpu0": route}
    assert result["result"] == ("-EINVAL" if route == "none" else 65536)
    assert how == {"switch": [("bus", True)], "bridge": [("phys", dma != "iommu")], "none": []}[route]


def test_what_no_host_bridge_passes_on_leads_nowhere_even_by_mistake():
    with built(folio="gpu", route="none", dma="direct") as machine:
        machine.run()
        (node,) = machine.pcie.bars
        with pytest.raises(BusFault):
            RootComplex(machine.pcie, machine.ram).views(node.bar.start, 4)
        assert machine.ram.views(node.bar.start, 4)


def test_the_block_device_stands_in_the_tree_by_its_own_name():
    with built(device="optane") as machine:
        assert machine.pcie.told()["client"] == "optane"
