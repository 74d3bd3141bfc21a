"""Captures of real IOs, and those that were made by hand, by the beginnings of their names."""

import copy
import json
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REAL = sorted((HERE.parents[1] / "data" / "captures").rglob("*.json"))
BY_HAND = tomllib.loads((HERE / "by_hand.toml").read_text())
LOOP = {
    "logical_block_size": 512, "physical_block_size": 512, "max_sectors_kb": 1280, "max_hw_sectors_kb": 1280,
    "max_segments": 128, "max_segment_size": 65536, "dma_alignment": 511, "virt_boundary_mask": 0, "nomerges": 0,
    "nr_requests": 128, "scheduler": "[none] mq-deadline kyber bfq",
}  # fmt: skip
SECTORS = ("sector", "nr_sector")
EVENTS = {
    "Q": ("block_bio_queue", SECTORS), "X": ("block_split", ("sector", "new_sector")), "G": ("block_getrq", SECTORS),
    "M": ("block_bio_backmerge", SECTORS), "F": ("block_bio_frontmerge", SECTORS), "P": ("block_plug", ()),
    "U": ("block_unplug", ("nr_rq",)), "I": ("block_rq_issue", SECTORS), "N": ("block_rq_insert", SECTORS),
    "C": ("block_bio_complete", (*SECTORS, "error")),
}  # fmt: skip


def event(text):
    letter, *figures = text.strip().lstrip("*").split()
    name, fields = EVENTS[letter]
    by = "other" if text.strip().startswith("*") else "submitter"
    return {"event": f"block:{name}", "by": by} | dict(zip(fields, map(int, figures), strict=True))


def written(name):
    """Return the capture `name` of by_hand.toml as the JSON of a real one."""
    row = copy.deepcopy(BY_HAND[name])
    if "scattered" in row:
        addr, pfn, pages = row["scattered"]
        row = row | {"before": [[addr + 4096 * at, pfn + 2 * at, 1] for at in range(pages)]}
    bios = (
        [{"event": "queue", "sector": sector, "bvecs": vecs} for sector, vecs in row["bios"]] if "bios" in row else None
    )
    return {
        "format": row.get("format", "labkit-capture-1"), "id": name, "kernel": row.get("kernel", "6.18.44"),
        "config": row.get("config"), "io": row["io"],
        "device": {"name": "x", "path": row.get("path", "blkdev"), "size_bytes": row.get("size", 1 << 28)}
        | row.get("device", {}),
        "limits": LOOP | row.get("limits", {}), "registered": row.get("registered"), "extents": row.get("extents"),
        "layout": {"before": row["before"], "large_folios": row.get("large_folios", [])},
        "result": row["result"], "bios": bios, "events": [event(text) for text in row["events"].split(",") if text],
    }  # fmt: skip


def named(name):
    if name in BY_HAND:
        return written(name)
    return json.loads(next(path for path in REAL if path.name.startswith(name)).read_text())


def pytest_generate_tests(metafunc):
    """Give a test that asks for `real` or `by_hand` one capture after the other."""
    for fixture, names in (("real", [path.name for path in REAL]), ("by_hand", list(BY_HAND))):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, names, ids=[name.removesuffix(".json") for name in names], indirect=True)


@pytest.fixture
def real(request):
    """The JSON of one real capture."""
    return named(request.param)


@pytest.fixture
def by_hand(request):
    """One capture that was made by hand."""
    return written(request.param)


@pytest.fixture(scope="session")
def captured():
    """What finds the JSON of a capture, real or made by hand, by its name."""
    return named
