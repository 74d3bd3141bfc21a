"""Commands of a drive, and the device addresses of their memory."""

from itertools import chain

from labkit.trace.events import DmaMap, DmaUnmap, NvmeCompleteRq, NvmeSetupCmd, SwiotlbBounced
from labkit.views.decode import decode
from labkit.witness.capture import Capture
from labkit.witness.replay import story


def told(row):
    return story(Capture.of(row))


def nvme(real):
    return real["format"].endswith("+nvme")


def test_every_command_is_told_as_the_drive_got_it(real):
    if not nvme(real):
        return
    trace = told(real)
    commands = [rec for rec in trace.of(NvmeSetupCmd) if rec.sqe or "sqe" not in (real["nvme"] or [{}])[0]]
    rows = real["nvme"]
    assert [rec.cid for rec in commands][: len(rows)] == [row["cid"] for row in rows]
    for rec, row in zip(commands, rows, strict=False):
        assert (rec.slba, rec.length) == (row["slba"], row["bytes"])
        assert rec.sqe == row.get("sqe", "")
        assert sum(map(len, decode(rec)[0].data.hex())) == 128 if rec.sqe else not decode(rec)


def test_device_addresses_are_as_many_bytes_as_the_memory(real):
    for rec in told(real).of(DmaMap):
        assert sum(n for _, n in rec.dma) == sum(n for _, n in rec.phys)


def test_what_is_mapped_is_unmapped_before_its_request_ends(real):
    trace = told(real)
    maps, unmaps = trace.of(DmaMap), trace.of(DmaUnmap)
    assert sorted(rec.rq for rec in maps) == sorted(rec.rq for rec in unmaps)
    assert all(rec.stale == (real["config"]["mode"] == "lazy") for rec in unmaps)


def test_sixteen_pages_become_one_range_of_device_addresses(captured):
    (rec,) = told(captured("007")).of(DmaMap)
    assert rec.dma == ((0xFFFC_0000, 65536),)
    assert (len(rec.phys), rec.maps, rec.how, rec.ioptes) == (16, 1, "iova", 16)


def test_each_way_to_map_is_told_by_its_calls(captured):
    ways = {name: {rec.how for rec in told(captured(name)).of(DmaMap)} for name in ("001", "404", "411", "610", "109")}
    assert ways == {"001": {"phys"}, "404": {"sg"}, "411": {"phys"}, "610": {"bus"}, "109": {"phys"}}


def test_what_is_bounced_has_a_slot_each(captured):
    trace = told(captured("202"))
    (rec,) = trace.of(DmaMap)
    assert rec.bounced == 8192
    assert [(one.phys, one.slot, one.len) for one in trace.of(SwiotlbBounced)] == [
        (0x7FE78200, 0x7940E200, 3584), (0x3D04000, 0x7940F000, 4096), (0x4329000, 0x79410000, 512),
    ]  # fmt: skip


def test_a_list_of_prps_holds_the_pages_behind_the_first(captured):
    (rec,) = told(captured("506")).of(NvmeSetupCmd)
    assert (rec.encoding, rec.prps, rec.descriptor_bytes) == ("prp", 16, 120)
    where, _, data = rec.lists.partition(":")
    assert int(where, 16) == rec.prp2
    pages = [int.from_bytes(bytes.fromhex(data)[at : at + 8], "little") for at in range(0, 120, 8)]
    assert pages == list(range(rec.prp1 + 4096, rec.prp1 + 65536, 4096))


def test_an_sgl_of_two_stands_in_memory(captured):
    (rec,) = told(captured("111")).of(NvmeSetupCmd)
    assert (rec.encoding, rec.prps, rec.descriptor_bytes) == ("sgl", 2, 32)
    assert list(chain.from_iterable(block.fields for block in decode(rec)[1:]))


def test_a_command_that_never_came_to_the_drive_has_no_bytes(captured):
    trace = told(captured("622"))
    (rec,) = trace.of(NvmeSetupCmd)
    assert (rec.sqe, rec.prps, trace.of(DmaMap), trace.of(NvmeCompleteRq)) == ("", 0, (), ())


def test_where_no_event_tells_of_the_unmap_it_is_inferred(captured):
    assert told(captured("111")).meta["inferred"]["DmaUnmap"] == "since its request has ended"
    assert "DmaUnmap" not in told(captured("109")).meta["inferred"]
