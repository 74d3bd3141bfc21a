"""One IO in several currencies: results are equal but for what is known, and what each of them cost is told."""

import json
from dataclasses import replace

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.machine import Machine
from labkit.machine.compare import SYSTEMS, Comparison, compare
from labkit.scenario import KINDS, Scenario
from labkit.trace.layers import BELOW_DIO, LAYERS
from labkit.trace.registration import REGISTRATION

SMALL = {"ram": "64 MiB", "size": "64 KiB", "fragmentation": 1.0}
ONLY_PHYRS = {"gpu", "vfio", "hidden"}
"""Memory that pages can do no IO with (data/kinds.toml)."""
NOBODYS = {"secretmem", "guest-memfd-private", "vvar", "pfnmap-ram"}
"""Memory that nobody may do IO with."""


def results(found):
    return {name: report["result"] for name, report in found.reports.items()}


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hugetlb1g"])
def test_memory_of_every_kind_gives_equal_results_or_the_known_difference(kind, op):
    found = compare(**SMALL, folio=kind, op=op)
    came = results(found)
    assert found.equal
    if kind in ONLY_PHYRS:
        assert came["phyr"] == 65536
        assert came["page"] == came["unified"] in {"-EFAULT", "-EREMOTEIO"}
        assert found.differences
        assert all(
            text.endswith(f"{kind} memory is nothing that pages can do IO with (data/kinds.toml)")
            for text in found.differences
        )
        return
    assert (len(set(came.values())), found.differences) == (1, ())
    assert (came["page"] == 65536) is (kind not in NOBODYS)


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("extents", ["mapped", "hole", "unwritten", "mixed", "shared"])
def test_extents_of_every_kind_give_equal_results(extents, direct, op):
    found = compare(**SMALL, fs="xfs", extents=extents, direct=direct, op=op)
    assert (found.equal, found.differences) == (True, ())
    assert all(report["verified"] for report in found.reports.values())


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18", "7.3"])
@pytest.mark.parametrize("knobs", [{"op": "read"}, {"op": "write", "fs": "ext4"}, {"api": "preadv", "pieces": 5}])
def test_below_dio_phyrs_touch_no_struct_page_and_pages_do(kernel, knobs):
    told = compare(**SMALL, kernel=kernel, **knobs).as_dict()["systems"]
    below = {name: row["struct_pages_below_dio"] for name, row in told.items()}
    assert below["phyr"] == 0
    assert below["page"] > 0 < below["unified"]


def test_memory_that_begins_off_the_dma_alignment_is_looked_at_at_another_place_by_6_18_alone():
    """R8: inside one page 6.18 leaves it to the device, where the others refuse it before."""
    found = compare(**SMALL | {"size": 512, "skew": 2}, kernel="6.18")
    assert results(found) == {"page": "-EIO", "phyr": "-EINVAL", "unified": "-EINVAL"}
    assert found.equal
    assert all(text.endswith("(R8, ITER-5)") for text in found.differences)
    assert len(found.differences) == 2
    for kernel in ("6.1", "6.12", "7.3"):
        assert set(results(compare(**SMALL | {"size": 512, "skew": 2}, kernel=kernel)).values()) == {"-EINVAL"}


@pytest.mark.parametrize(("system", "came"), [("page", 4096), ("phyr", "-EFAULT"), ("unified", "-EFAULT")])
def test_who_pins_at_the_start_fails_before_anything_is_issued(system, came, nothing_held):
    """D-4: of 8 KiB the second half is not mapped."""
    machine = Machine(ram="64 MiB", system=system)
    task = machine.task()
    buf, fd = task.mmap("8 KiB"), task.open("/dev/nvme0n1")
    task.munmap(buf + 4096)
    try:
        found = task.pread(fd, buf, 8192)
    except SyscallError as bad:
        found = bad.errno_name
    assert found == came
    nothing_held(machine)


@pytest.fixture(scope="module")
def found():
    return compare(ram="128 MiB", size="1 MiB", fragmentation=0.8, iommu="off")


def test_as_json_it_has_every_system_with_meters_and_ratios(found):
    told = json.loads(json.dumps(found.as_dict()))
    assert set(told) == {"equal", "differences", "notes", "systems", "scenario"}
    assert list(told["systems"]) == list(SYSTEMS)
    for row in told["systems"].values():
        assert set(row) == {
            "label", "result", "verified", "error", "meters", "ratios", "totals", "struct_pages_below_dio", "sim_ns",
        }  # fmt: skip
        assert {layer: tuple(meters) for layer, meters in row["meters"].items()} == LAYERS | {"once": REGISTRATION}
        assert row["ratios"].keys() == row["meters"].keys()
        assert row["struct_pages_below_dio"] == sum(row["meters"][layer].get("struct_pages", 0) for layer in BELOW_DIO)
    assert "system" not in told["scenario"]


def test_ratios_are_to_the_first_system_and_none_where_that_has_nothing(found):
    told = found.as_dict()["systems"]
    page, phyr = told["page"], told["phyr"]
    assert {ratio for meters in page["ratios"].values() for ratio in meters.values()} == {1.0, None}
    for layer, meters in phyr["meters"].items():
        for name, value in meters.items():
            base = page["meters"][layer][name]
            assert phyr["ratios"][layer][name] == (round(value / base, 4) if base else None)
    assert phyr["ratios"]["gup"]["struct_pages"] == 0


def test_the_first_system_that_is_asked_for_is_the_measure():
    other = compare(**SMALL, systems=("phyr", "page"))
    assert list(other.traces) == ["phyr", "page"]
    row = next(row for row in other.table() if row[:2] == ("gup", "struct_pages"))
    assert row[2][0] == 0 < row[2][1]
    assert row[3] == (None, None)


def test_the_table_has_what_anybody_counted_and_nothing_else(found):
    rows = {(layer, name): values for layer, name, values, _ in found.table()}
    assert all(any(values) for values in rows.values())
    assert rows["device", "bytes"] == (1 << 20,) * 3
    assert ("fs", "extents") not in rows


def test_as_text_every_system_has_its_label(found):
    text = str(found)
    for words in ("upstream 7.3", "proposed (Wilcox, 2022 and 2024)", "proposed (Overstreet, 2024)", "struct pages"):
        assert words in text
    assert text.splitlines()[-1] == "results: page 1048576, phyr 1048576, unified 1048576: equal"


def test_labels_name_the_kernel_that_was_asked_for():
    assert compare(**SMALL, kernel="6.12", systems=("page",)).labels == {"page": "upstream 6.12"}


def test_hostile_words_are_escaped_in_html(found):
    evil = "<script>alert('x')</script>"
    told = replace(found, labels=dict.fromkeys(found.labels, evil), differences=(evil,))
    html = told._repr_mimebundle_()["text/html"]
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 4
    assert "<table>" in html


def test_results_that_nobody_can_explain_are_not_equal():
    found = Comparison(Scenario.of({}), {}, {}, {}, ("phyr 1, page 2: no rule allows this",), equal=False)
    assert str(found).endswith("not equal\nphyr 1, page 2: no rule allows this")


@pytest.mark.parametrize("systems", [(), ("phyr", "phyr"), ("iov",), ("page", "")])
def test_systems_that_are_none_are_refused(systems):
    with pytest.raises(
        BadInput, match=r"systems=.* are not some of page, phyr, unified, premapped, each once \(-EINVAL\)"
    ):
        compare(**SMALL, systems=systems)


def test_knobs_of_one_system_do_not_trouble_the_others():
    found = compare(**SMALL, pin="lease", chunk=16)
    assert found.equal
    assert found.reports["phyr"]["pins"]["policy"] == "lease"
    assert found.reports["page"]["pins"]["policy"] == "page"


@pytest.fixture(scope="module")
def four():
    systems = ("page", "phyr", "unified", "premapped")
    return compare(ram="128 MiB", size="1 MiB", fragmentation=0.8, iommu="strict", count=4, systems=systems)


def test_rule_dmabuf_4_device_addresses_cost_an_io_nothing_and_are_kept_all_the_time(four):
    assert (four.equal, four.differences) == (True, ())
    told = four.as_dict()["systems"]
    page, phyr, premapped = (told[name]["meters"] for name in ("page", "phyr", "premapped"))
    costs = [("gup", "atomics"), ("gup", "ptes"), ("dma", "maps"), ("dma", "ioptes"), ("dma", "iotlb_syncs")]
    assert all(page[layer][name] > 0 == premapped[layer][name] for layer, name in costs)
    assert phyr["dma"]["maps"] > 0 < phyr["gup"]["atomics"]
    assert premapped["once"] == premapped["once"] | {"pinned_bytes": 1 << 20, "mapped_bytes": 1 << 20, "ioptes": 256}
    assert not any(page["once"].values()) | any(phyr["once"].values())


def test_what_is_kept_between_ios_is_told_in_a_sentence(four):
    sentence = (
        "premapped: 1 MiB stays in place, 1 MiB of it mapped for one device, until it is unregistered, "
        "and whether IO goes there or not"
    )
    assert four.notes == (sentence,)
    assert str(four).endswith(f"premapped 1048576: equal\n{sentence}")
    assert ("once", "mapped_bytes", (0, 0, 0, 1 << 20), (None,) * 4) in four.table()


@pytest.mark.parametrize(
    "kind", ["registered", "secretmem", "device-coherent", "gpu", "hidden", "file", "fsdax", "ksm"]
)
@pytest.mark.parametrize("op", ["read", "write"])
def test_memory_that_is_mapped_beforehand_differs_as_it_is_known_to(kind, op):
    found = compare(**SMALL, folio=kind, op=op, systems=("page", "phyr", "premapped"))
    assert found.equal
