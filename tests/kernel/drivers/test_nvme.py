import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.hardware.nvme_ssd import CONTROL_FUA, SQE
from labkit.kernel.drivers.nvme import list_chunks, prp_entries
from labkit.kernel.drivers.ops import REQ_FUA, Request
from labkit.machine import Machine
from labkit.scatter.payload import run_length

MIB = 1 << 20
PAGE = 4096


def machine_of(iommu="off"):
    return Machine(ram="64 MiB", fragmentation=0, iommu=iommu)


def request(vecs, *, write=True, sector=16, tag=5):
    piece = (vecs, sum(nbytes for _, nbytes in vecs), len(vecs))
    return Request(1, 1, tag, sector, piece, write=write)


def pieces(machine, rq, ranges):
    """Let the driver write the command for `ranges`, and the device parse it."""
    slot = machine.nvme._setup_cmd(rq, prp_entries(ranges))
    sqe = SQE.unpack(machine.ram.view(machine.nvme.queues.sq_phys + 64 * slot, 64))
    return machine.device._parse_prps(sqe[4], sqe[5], (sqe[7] + 1) << 9)


def test_worked_vector_v1_the_list_begins_after_the_first_page():
    assert prp_entries(((0x64200, 7680), (0x12C000, 1024))) == [0x64200, 0x65000, 0x12C000]


def test_worked_vector_v2_two_pages_need_no_list():
    assert prp_entries(((0x64200, 4608),)) == [0x64200, 0x65000]


@pytest.mark.parametrize(
    ("ranges", "entries"),
    [
        (((0x7000, 512),), [0x7000]),
        (((0x7E00, 512),), [0x7E00]),
        (((0x7000, 4096),), [0x7000]),
        (((0x7E00, 1024),), [0x7E00, 0x8000]),
        (((0x7000, 12288),), [0x7000, 0x8000, 0x9000]),
        (((0x7000, 4096), (0x21000, 4096)), [0x7000, 0x21000]),
        (((0x7000, 8192), (0x21000, 512)), [0x7000, 0x8000, 0x21000]),
    ],
)
def test_every_entry_but_the_first_is_the_start_of_a_page(ranges, entries):
    assert prp_entries(ranges) == entries


@pytest.mark.parametrize(
    ("entries", "chunks"),
    [(2, [2]), (32, [32]), (512, [512]), (513, [512, 2]), (1023, [512, 512]), (1024, [512, 512, 2])],
)
def test_a_full_list_gives_its_last_slot_to_the_next(entries, chunks):
    assert list_chunks(entries) == chunks


def test_worked_vector_v7_four_mebibytes_take_two_lists():
    machine = machine_of()
    rq = request(((4 * MIB, 4 * MIB),))
    found = pieces(machine, rq, rq.vecs)
    assert [block.nbytes for block in rq.blocks] == [4096, 4096]
    assert found == [(4 * MIB + at, PAGE) for at in range(0, 4 * MIB, PAGE)]
    first, second = (machine.ram.view(machine.nvme.pool.phys + block.offset, 4096).cast("Q") for block in rq.blocks)
    assert (first[0], first[510]) == (4 * MIB + PAGE, 4 * MIB + 511 * PAGE)
    assert first[511] == machine.nvme.pool.dma + rq.blocks[1].offset
    assert (second[0], second[511]) == (4 * MIB + 512 * PAGE, 4 * MIB + 1023 * PAGE)


def test_a_command_is_these_64_bytes():
    machine = machine_of()
    machine.nvme._setup_cmd(request(((0x7000, 4096), (0x21000, 4096))), [0x7000, 0x21000])
    assert bytes(machine.ram.view(machine.nvme.queues.sq_phys, 64)).hex() == (
        "0100050001000000"  # write, no flags, command id 5, namespace 1
        "00000000000000000000000000000000"  # reserved, no metadata
        "00700000000000000010020000000000"  # PRP1, PRP2
        "10000000000000000f000000"  # start LBA 16, 16 blocks counted from 0, no control
        "000000000000000000000000"
    )  # fmt: skip


def test_a_read_has_opcode_two_and_one_page_no_second_prp():
    machine = machine_of()
    machine.nvme._setup_cmd(request(((0x7E00, 512),), write=False, sector=1, tag=0), [0x7E00])
    assert bytes(machine.ram.view(machine.nvme.queues.sq_phys, 64)).hex() == (
        "020000000100000000000000000000000000000000000000007e0000000000000000000000000000"
        "010000000000000000000000000000000000000000000000"
    )  # fmt: skip


@pytest.mark.parametrize(("pages", "nbytes"), [(3, 256), (33, 256), (34, 4096), (129, 4096)])
def test_a_short_list_takes_256_bytes_a_long_one_a_page(pages, nbytes):
    rq = request(((4 * MIB, pages * PAGE),))
    pieces(machine_of(), rq, rq.vecs)
    assert [block.nbytes for block in rq.blocks] == [nbytes]


def test_the_submission_queue_is_a_ring():
    machine = machine_of()
    slots = [machine.nvme._setup_cmd(request(((0x7000, 512),)), [0x7000]) for _ in range(1026)]
    assert slots == [*range(1024), 0, 1]


def test_lists_that_cannot_all_be_had_are_all_given_back():
    machine = machine_of()
    pool = machine.nvme.pool
    while len(pool._pages) > 1:
        pool.alloc(4096)
    before = pool.in_use
    rq = request(((4 * MIB, 4 * MIB),))
    with pytest.raises(SyscallError) as caught:
        pieces(machine, rq, rq.vecs)
    assert caught.value.errno == errno.ENOMEM
    assert (pool.in_use, len(pool._pages), rq.blocks) == (before, 1, ())


@st.composite
def ranges_of(draw):
    """Return ranges as the virt boundary lets them be: only the first begins, only the last ends inside a page."""
    pfns = draw(st.lists(st.integers(4096, 16000), min_size=1, max_size=60, unique=True))
    frames = [draw(st.integers(1, 12)) for _ in pfns]
    ranges = [(pfn << 12, count << 12) for pfn, count in zip(pfns, frames, strict=True)]
    skew = draw(st.integers(0, 1023)) * 4
    ranges[0] = (ranges[0][0] + skew, ranges[0][1] - skew)
    surplus = sum(nbytes for _, nbytes in ranges) % 512
    addr, nbytes = ranges[-1]
    ranges[-1] = (addr, nbytes - surplus) if nbytes > surplus else (addr, nbytes + 512 - surplus)
    if len(ranges) > 1:
        tail = draw(st.integers(0, (ranges[-1][1] - 1) // 512)) * 512
        ranges[-1] = (ranges[-1][0], ranges[-1][1] - tail)
    return tuple(ranges)


@given(ranges_of())
def test_the_device_parses_what_the_driver_wrote(ranges):
    machine = shared_machine
    rq = request(ranges)
    entries = prp_entries(ranges)
    assert all(entry % PAGE == 0 for entry in entries[1:])
    first = min(rq.nbytes, PAGE - ranges[0][0] % PAGE)
    assert len(entries) == 1 + -(-(rq.nbytes - first) // PAGE)
    found = pieces(machine, rq, ranges)
    assert run_length(found) == run_length(ranges)
    for block in rq.blocks:
        machine.nvme.pool.free(block)
    assert machine.nvme.pool.in_use == 0


shared_machine = machine_of()


@pytest.mark.parametrize(("status", "error"), [(0x02, 95), (0x80, 121), (0x81, 28), (0x04, 5), (0x281, 61), (0x1FF, 5)])
def test_a_status_becomes_an_errno(status, error, monkeypatch):
    machine = machine_of()
    monkeypatch.setattr(machine.device, "_check", lambda _sqe: status)
    ended = []
    rq = request(((0x1800000, 4096),))
    rq.end_io = lambda _rq, code: ended.append(code)
    machine.clock.job(machine.nvme.queue_rq(rq))
    machine.clock.run()
    assert ended == [error]
    assert [rec.status for rec in machine.trace if type(rec).__name__ == "NvmeCompleteRq"] == [status]


def flush_of(machine, tag=3):
    rq = Request(9, 1, tag, 0, ((), 0, 0), write=True)
    ended = []
    rq.end_io = lambda _rq, error: ended.append((error, int(machine.clock.now)))
    return rq, ended


@pytest.mark.parametrize("iommu", ["off", "strict"])
def test_a_flush_is_a_command_without_memory_and_nothing_is_mapped(iommu):
    machine = machine_of(iommu)
    rq, ended = flush_of(machine)
    machine.clock.job(machine.nvme.queue_rq(rq))
    machine.clock.run()
    assert [error for error, _ in ended] == [0]
    assert bytes(machine.ram.view(machine.nvme.queues.sq_phys, 64)).hex() == "0000030001000000" + "00" * 56
    assert not [rec for rec in machine.trace if type(rec).__name__ in {"DmaMap", "DmaUnmap", "DeviceDma"}]
    assert machine.nvme.mappings == {}


def test_a_flush_waits_for_what_the_dies_are_at():
    machine = machine_of()
    alone = flush_of(machine)
    machine.clock.job(machine.nvme.queue_rq(alone[0]))
    machine.clock.run()
    begin = int(machine.clock.now)
    write = request(((0x1800000, 4096),))
    write.end_io = lambda _rq, _error: None
    machine.clock.job(machine.nvme.queue_rq(write))
    machine.clock.run(until=begin + 1000)
    late = flush_of(machine)
    machine.clock.job(machine.nvme.queue_rq(late[0]))
    machine.clock.run()
    took = late[1][0][1] - (begin + 1000)
    assert took > alone[1][0][1] + machine.device.profile.write_ns // 2


@pytest.mark.parametrize(("opf", "write", "control"), [(REQ_FUA, True, CONTROL_FUA), (0, True, 0), (REQ_FUA, False, 0)])
def test_fua_is_bit_30_of_dword_12(opf, write, control):
    machine = machine_of()
    rq = request(((0x7000, 4096),), write=write)
    rq.opf = opf
    machine.nvme._setup_cmd(rq, [0x7000])
    dword12 = int.from_bytes(machine.ram.view(machine.nvme.queues.sq_phys + 48, 4), "little")
    assert dword12 == 7 | control << 16
    assert (control == 0) == (dword12 >> 30 & 1 == 0)
