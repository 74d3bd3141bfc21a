import pytest

from labkit.hardware.pcie import Q35, XEON_E5, ZEN, HostBridge, Node, Pcie
from labkit.kernel.dma.p2pdma import MapType, PciP2pDma

BUS, THRU, NO = MapType.BUS_ADDR, MapType.THRU_HOST_BRIDGE, MapType.NOT_SUPPORTED


def asked(route, **more):
    tree = Pcie.of(route, **more)
    tree.plug("gpu0", 1 << 33, 1 << 20)
    return PciP2pDma(tree).map_type("gpu0")


@pytest.mark.parametrize(
    ("route", "acs", "host", "want"),
    [
        ("switch", False, None, BUS),
        ("switch", False, Q35, BUS),
        ("switch", True, None, THRU),
        ("switch", True, Q35, NO),
        ("bridge", False, None, THRU),
        ("bridge", True, None, THRU),
        ("bridge", False, XEON_E5, THRU),
        ("none", False, None, NO),
        ("none", False, ZEN, THRU),
    ],
)
def test_p2p_2_the_first_common_bridge_and_what_redirects_on_the_way_decide(route, acs, host, want):
    assert asked(route, acs=acs, host=host) is want


def test_p2p_3_some_root_complexes_pass_on_between_their_own_ports_alone():
    def across(one, other):
        tree = Pcie.of("bridge", host=one)
        top = Node("second host bridge", "root complex", host=other)
        tree.plug("gpu0", 1 << 33, 1 << 20, below=Node("far port", "root port", top))
        return PciP2pDma(tree).map_type("gpu0")

    assert across(ZEN, HostBridge("another", True)) is THRU
    assert across(XEON_E5, ZEN) is NO
    assert across(ZEN, Q35) is NO


def test_a_provider_that_is_the_client_itself_is_reached_by_bus_address():
    tree = Pcie.of("none")
    tree.plug("nvme", 1 << 33, 1 << 20)
    assert PciP2pDma(tree).map_type("nvme") is BUS


def test_p2p_6_what_is_no_pci_device_is_not_supported():
    peers = PciP2pDma(Pcie.of("switch"))
    assert peers.map_type("xen") is NO
    assert peers.map_type("nvme") is NO  # it has no memory
    assert peers.bus_offset("xen") == 0


def test_p2p_4_the_offset_of_a_bar_is_that_of_its_device():
    tree = Pcie.of("switch")
    tree.plug("gpu0", 1 << 33, 1 << 20, offset=-4096)
    assert PciP2pDma(tree).bus_offset("gpu0") == -4096


def test_p2p_1_an_answer_is_kept_for_a_provider_and_not_for_the_next_one_of_its_name():
    tree = Pcie.of("switch")
    peers = PciP2pDma(tree)
    node = tree.plug("gpu0", 1 << 33, 1 << 20)
    assert peers.map_type("gpu0") is BUS
    node.parent.acs = True
    assert peers.map_type("gpu0") is BUS
    tree.unplug("gpu0")
    assert peers.map_type("gpu0") is NO
    tree.plug("gpu0", 1 << 33, 1 << 20).parent.acs = True
    assert peers.map_type("gpu0") is THRU
