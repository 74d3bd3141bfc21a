import json
import tomllib

import pytest

from labkit.machine import DATA
from labkit.witness.manifest import NAME, manifest, write


@pytest.mark.parametrize("room", ["captures", "recordings"])
def test_the_manifest_tells_what_the_files_say(room):
    assert (DATA / room / NAME).read_text() == manifest(DATA / room)


@pytest.mark.parametrize(("room", "least"), [("captures", 59), ("recordings", 9)])
def test_every_file_has_its_kernel_its_date_and_how_it_was_made(room, least):
    told = tomllib.loads((DATA / room / NAME).read_text())
    files = [path for path in (DATA / room).rglob("*.json*") if path.is_file()]
    assert sorted(told) == sorted(str(path.relative_to(DATA / room)) for path in files)
    assert len(told) >= least
    assert all(row["kernel"] and row["date"] and row["how"] for row in told.values())


def test_a_capture_is_told_by_its_device_and_by_what_was_looked_at():
    told = tomllib.loads((DATA / "captures" / NAME).read_text())
    assert told["53-ext4-frag-read.json"]["how"] == (
        "tracefs, pagemap, BPF, on a loop device with ext4 and direct backing IO"
    )
    assert told["nvme/404-6.12-lazy-8koff.json"] == {
        "what": "8 KiB at offset 512: 3 PRPs -> list [6.12 lazy mdts=7 ]", "kernel": "6.12.107", "date": "not noted",
        "how": told["nvme/404-6.12-lazy-8koff.json"]["how"],
    }  # fmt: skip
    assert "the drive's side, in QEMU 7.2.22" in told["nvme/404-6.12-lazy-8koff.json"]["how"]


def test_a_recording_is_told_by_what_it_shows():
    told = tomllib.loads((DATA / "recordings" / NAME).read_text())
    assert told["fork-copies.json"]["what"] == "fork copies pinned pages"
    assert told["first-io-loop.json.gz"]["what"] == "one read of 65536 bytes on a real loop device"


def test_a_manifest_of_other_files_is_another(tmp_path):
    kept = {"format": "labkit-demo-1", "name": "collapse", "recorded": {"kernel": "6.18.44", "date": "2026-11-23"}}
    (tmp_path / "x.json").write_text(json.dumps(kept))
    told = tomllib.loads(write(tmp_path).read_text())
    assert told["x.json"]["date"] == "2026-11-23"
