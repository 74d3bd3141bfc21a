import itertools

import pytest

from labkit.trace.trace import Trace
from labkit.views.pcie import headline, hops, pcie, tree
from labkit.widgets.pcie import sample


def refused():
    trace = sample()
    told = trace.meta["pcie"] | {"routes": {"gpu": "none"}, "host": {"name": "Intel Q35", "listed": False}}
    return Trace((), meta={"pcie": told})


def way(trace, peer="gpu"):
    return [(hop.before, hop.at) for hop in hops(trace, tree(trace)) if hop.peer == peer]


def test_over_a_switch_the_request_turns_below_the_root():
    assert way(sample()) == [
        ("", "nvme"), ("nvme", "switch port 0"), ("switch port 0", "switch"), ("switch", "switch port 1"),
        ("switch port 1", "gpu"),
    ]  # fmt: skip
    texts = [hop.text for hop in hops(sample(), tree(sample()))]
    assert texts[-3].endswith("the root never sees it (BUS_ADDR, P2P-2).")
    assert texts[-1] == "It comes to the memory of gpu: one mapping of 64 KiB in this trace."


def test_acs_sends_it_up_to_the_root_and_down_again():
    trace = sample(acs=True)
    assert [at for _, at in way(trace)] == [
        "nvme", "switch port 0", "switch", "root port 0", "host bridge", "root port 0", "switch", "switch port 1",
        "gpu",
    ]  # fmt: skip
    assert "ACS" in [hop.text for hop in hops(trace, tree(trace)) if hop.at == "switch port 0"][-1]


def test_a_host_bridge_that_is_not_listed_is_the_end_of_it():
    assert way(refused())[-1] == ("root port 0", "host bridge")
    assert hops(refused(), tree(refused()))[-1].text.endswith("the kernel refuses the mapping (NOT_SUPPORTED, P2P-2).")
    assert "✕ refused" in pcie(refused()).words["text"]


def test_ram_is_reached_through_the_root_whatever_the_peers():
    assert [at for _, at in way(refused(), "RAM")] == [
        "nvme", "switch port 0", "switch", "root port 0", "host bridge", "RAM",
    ]  # fmt: skip


def test_its_own_memory_needs_no_way():
    told = sample().meta["pcie"]
    nodes = [row | {"bar": [0x1000, 4096, 0]} if row["name"] == "nvme" else row for row in told["nodes"]]
    own = Trace((), meta={"pcie": told | {"nodes": nodes, "routes": {"nvme": "own"}}})
    assert way(own, "nvme") == [("", "nvme"), ("", "nvme")]


def test_each_hop_is_a_step_and_its_link_lights_up_then():
    picture = pcie(sample())
    assert len(picture.steps) == 11
    shapes = picture.shapes
    rows = zip(shapes["role"], shapes["t1"], shapes["t4"], strict=True)
    assert sorted({(t1, t4) for role, t1, t4 in rows if role == "bus"}) == [(7, 11), (8, 11), (9, 11), (10, 11)]


def test_ports_with_acs_have_a_badge():
    assert pcie(sample(acs=True)).words["text"].count("ACS") == 2
    assert "ACS" not in pcie(sample()).words["text"]


@pytest.mark.parametrize(
    ("trace", "head"),
    [
        (sample(), "nvme reaches gpu over a switch"),
        (sample(acs=True), "nvme reaches gpu through the host bridge"),
        (refused(), "nvme reaches gpu not at all"),
        (Trace(()), "No PCIe tree"),
    ],
    ids=["switch", "bridge", "none", "no tree"],
)
def test_the_headline_says_who_reaches_whom(trace, head):
    assert headline(tree(trace))[0] == head


@pytest.mark.parametrize("width", [1568, 668])
def test_nothing_leaves_the_page_and_no_boxes_overlap(width):
    picture = pcie(sample(acs=True), width)
    shapes = picture.shapes
    assert min(shapes["left"]) >= 0
    assert max(shapes["right"]) <= width
    assert max(shapes["bottom"]) <= picture.height
    rows = zip(shapes["role"], shapes["left"], shapes["right"], shapes["top"], strict=True)
    boxes = [(top, left, right) for role, left, right, top in rows if role in {"box", "file"}]
    level = sorted(boxes)
    assert all(a[2] <= b[1] for a, b in itertools.pairwise(level) if a[0] == b[0])


def test_without_a_tree_there_are_no_steps():
    assert pcie(Trace(())).steps == []
