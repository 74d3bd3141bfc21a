import pytest

from labkit.errors import BadInput
from labkit.hardware.device import BusFault
from labkit.hardware.iommu import Iommu
from labkit.hardware.pcie import Pcie, PcieBus, RootComplex
from labkit.hardware.ram import RAM

BAR, SIZE = 1 << 24, 1 << 16
MASK = (1 << 64) - 1


def plugged(route, *, acs=False, iommu=False, offset=0, mask=MASK):
    """Return the bus of a device in a machine where gpu0 has 64 KiB of memory."""
    ram = RAM(memoryview(bytearray(1 << 20)))
    ram.add(BAR, memoryview(bytearray(b"g" * SIZE)), "gpu0")
    tree = Pcie.of(route, acs=acs)
    root = RootComplex(tree, ram)
    up = Iommu(root) if iommu else None
    bus = PcieBus(tree, up or root, ram, mask, up)
    tree.plug("gpu0", BAR, SIZE, offset)
    return tree, bus


def test_below_a_switch_memory_of_a_peer_answers_to_its_bus_address():
    _, bus = plugged("switch", offset=0x1000000)
    assert bytes(bus.views(BAR + 0x1000000, 4)[0]) == b"gggg"
    bus.views(0x2000, 4, True)[0][:] = b"ramm"
    assert bytes(bus.views(0x2000, 4)[0]) == b"ramm"


def test_a_switch_asks_no_iommu_for_a_peer_and_the_iommu_for_everything_else():
    _, bus = plugged("switch", iommu=True)
    assert bytes(bus.views(BAR, 4)[0]) == b"gggg"
    assert bus.fills() is None
    with pytest.raises(BusFault):
        bus.views(0x2000, 4)
    assert bus.fills() == ((), (), 0, 1)


def test_acs_sends_the_request_up_to_the_iommu_which_knows_nothing_of_a_bus_address():
    tree, bus = plugged("switch", acs=True, iommu=True)
    assert tree.route(tree.find("gpu0")) == "bridge"
    with pytest.raises(BusFault):
        bus.views(BAR, 4)
    bus.iommu.map(0x8000, BAR, 4096)
    assert bytes(bus.views(0x8000, 4)[0]) == b"gggg"


def test_a_host_bridge_passes_on_or_it_does_not():
    assert bytes(plugged("bridge")[1].views(BAR, 4)[0]) == b"gggg"
    with pytest.raises(BusFault):
        plugged("none")[1].views(BAR, 4)
    _, bus = plugged("none", iommu=True)
    bus.iommu.map(0x8000, BAR, 4096)
    with pytest.raises(BusFault):
        bus.views(0x8000, 4)


def test_an_address_beyond_the_mask_cannot_be_put_on_the_bus():
    _, bus = plugged("switch", mask=0xFFFF)
    assert len(bus.views(0xFFFC, 4)) == 1
    for addr in (0xFFFD, BAR):
        with pytest.raises(BusFault):
            bus.views(addr, 4)


def test_unplugged_memory_answers_no_more_to_the_switch():
    tree, bus = plugged("switch", iommu=True)
    tree.unplug("gpu0")
    with pytest.raises(BusFault):
        bus.views(BAR, 4)
    assert tree.told()["routes"] == {}


def test_watchers_are_told_of_the_addresses_of_each_bar():
    tree, told = Pcie.of("bridge"), []
    tree.watchers.append(lambda *bar: told.append(bar))
    tree.plug("gpu0", BAR, SIZE, 4096)
    tree.plug("nvme", BAR + SIZE, 4096)
    assert told == [(BAR + 4096, SIZE), (BAR + SIZE, 4096)]


def test_the_tree_is_told_in_plain_values_from_the_root_down():
    tree, _ = plugged("switch", acs=True)
    assert tree.told() == {
        "client": "nvme",
        "host": {"name": "AMD EPYC (family 0x17)", "listed": True},
        "nodes": [
            {"name": "host bridge", "parent": None, "kind": "root complex", "acs": False, "bar": None},
            {"name": "root port 0", "parent": "host bridge", "kind": "root port", "acs": False, "bar": None},
            {"name": "switch", "parent": "root port 0", "kind": "upstream port", "acs": False, "bar": None},
            {"name": "switch port 0", "parent": "switch", "kind": "downstream port", "acs": True, "bar": None},
            {"name": "nvme", "parent": "switch port 0", "kind": "endpoint", "acs": False, "bar": None},
            {"name": "switch port 1", "parent": "switch", "kind": "downstream port", "acs": True, "bar": None},
            {"name": "gpu0", "parent": "switch port 1", "kind": "endpoint", "acs": False, "bar": [BAR, SIZE, 0]},
        ],
        "routes": {"gpu0": "bridge"},
    }


def test_every_peer_has_a_port_and_a_free_one_is_taken_again():
    tree = Pcie.of("bridge")
    for at, name in enumerate(("gpu0", "gpu1", "gpu2")):
        tree.plug(name, BAR + at * SIZE, SIZE)
    tree.unplug("gpu1")
    tree.plug("vfio0", BAR + SIZE, SIZE)
    assert {node.name: node.parent.name for node in tree.bars} == {
        "gpu0": "root port 1",
        "gpu2": "root port 3",
        "vfio0": "root port 2",
    }
    assert tree.route(tree.find("gpu2")) == "bridge"


def test_a_name_is_plugged_in_once_and_out_once():
    tree = Pcie.of("bridge")
    tree.plug("gpu0", BAR, SIZE)
    tree.plug("nvme", BAR + SIZE, SIZE)
    assert tree.route(tree.client) == "own"
    for name in ("gpu0", "nvme"):
        with pytest.raises(BadInput, match="EEXIST"):
            tree.plug(name, BAR, SIZE)
        tree.unplug(name)
        with pytest.raises(BadInput, match="ENOENT"):
            tree.unplug(name)
    assert tree.client.bar is None


def test_another_route_is_refused():
    with pytest.raises(BadInput, match="route='tunnel' is not one of switch, bridge, none"):
        Pcie.of("tunnel")
