import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import SyscallError
from labkit.hardware.nvme.dptr import parse_prps, parse_sgl
from labkit.hardware.nvme.spec import CONTROL_FUA, SQE, Entry
from labkit.kernel.drivers.nvme.encode import DataPointer
from labkit.kernel.drivers.nvme.prp import prp_entries
from labkit.kernel.drivers.ops import REQ_FUA, Request
from labkit.kernel.drivers.timeouts import EhReturn
from labkit.machine import Machine
from labkit.scatter.payload import run_length

MIB = 1 << 20
PAGE = 4096
FRAME = 0x1800000
DONE, AGAIN = EhReturn.BLK_EH_DONE, EhReturn.BLK_EH_RESET_TIMER


def machine_of(iommu="off", **knobs):
    return Machine(ram="64 MiB", fragmentation=0, iommu=iommu, **knobs)


def request(vecs, *, write=True, sector=16, tag=5, rq=1):
    piece = (vecs, sum(nbytes for _, nbytes in vecs), len(vecs))
    return Request(rq, 1, tag, sector, piece, write=write)


def prps(ranges):
    return DataPointer("prp", prps=prp_entries(ranges))


def pieces(machine, rq, pointer):
    """Let the driver write the command for `pointer`, and the device parse it."""
    slot = machine.driver._setup_cmd(rq, pointer)
    entry = Entry(*SQE.unpack(machine.ram.view(machine.driver.queues.sq_phys + 64 * slot, 64)))
    parse = parse_sgl if entry.flags else parse_prps
    return parse(machine.ram, entry.prp1, entry.prp2, entry.nbytes)


def send(machine, *rqs):
    """Queue `rqs`, and return where their ends are noted: (number, errno)."""
    ended = []
    for rq in rqs:
        rq.end_io = lambda rq, error: ended.append((rq.rq, error))
        machine.clock.job(machine.driver.queue_rq(rq)).defused = True
    return ended


def nothing_held(machine):
    driver = machine.driver
    return (driver.maps.held, driver.outstanding, driver.pool.in_use, driver._aborted) == ({}, 0, 0, set())


def test_worked_vector_v7_four_mebibytes_take_two_lists():
    machine = machine_of()
    rq = request(((4 * MIB, 4 * MIB),))
    found = pieces(machine, rq, prps(rq.vecs))
    assert [block.nbytes for block in rq.blocks] == [4096, 4096]
    assert found == [(4 * MIB + at, PAGE) for at in range(0, 4 * MIB, PAGE)]
    first, second = (machine.ram.view(machine.driver.pool.phys + block.offset, 4096).cast("Q") for block in rq.blocks)
    assert (first[0], first[510]) == (4 * MIB + PAGE, 4 * MIB + 511 * PAGE)
    assert first[511] == machine.driver.pool.dma + rq.blocks[1].offset
    assert (second[0], second[511]) == (4 * MIB + 512 * PAGE, 4 * MIB + 1023 * PAGE)


def test_a_command_is_these_64_bytes():
    machine = machine_of()
    machine.driver._setup_cmd(request(((0x7000, 4096), (0x21000, 4096))), prps(((0x7000, 4096), (0x21000, 4096))))
    assert bytes(machine.ram.view(machine.driver.queues.sq_phys, 64)).hex() == (
        "0100050001000000"  # write, no flags, command id 5, namespace 1
        "00000000000000000000000000000000"  # reserved, no metadata
        "00700000000000000010020000000000"  # PRP1, PRP2
        "10000000000000000f000000"  # start LBA 16, 16 blocks counted from 0, no control
        "000000000000000000000000"
    )  # fmt: skip


def test_a_read_has_opcode_two_and_one_page_no_second_prp():
    machine = machine_of()
    machine.driver._setup_cmd(request(((0x7E00, 512),), write=False, sector=1, tag=0), prps(((0x7E00, 512),)))
    assert bytes(machine.ram.view(machine.driver.queues.sq_phys, 64)).hex() == (
        "020000000100000000000000000000000000000000000000007e0000000000000000000000000000"
        "010000000000000000000000000000000000000000000000"
    )  # fmt: skip


def test_one_descriptor_is_in_the_command_and_a_list_is_led_to():
    machine = machine_of()
    one, many = request(((0x7200, 8192),)), request(((0x7000, 512), (0x21000, 512)))
    machine.driver._setup_cmd(one, DataPointer("sgl1", sgl=one.vecs))
    machine.driver._setup_cmd(many, DataPointer("sgl", sgl=many.vecs, room=2))
    sq = machine.driver.queues.sq_phys
    assert bytes(machine.ram.view(sq + 24, 16)).hex() == "0072000000000000" + "0020000000000000"
    assert machine.ram.view(sq + 1, 1)[0] == machine.ram.view(sq + 65, 1)[0] == 0x40
    at = machine.driver.pool.dma + many.blocks[0].offset
    assert bytes(machine.ram.view(sq + 88, 16)) == at.to_bytes(8, "little") + bytes.fromhex("2000000000000030")
    told = [rec for rec in machine.trace if type(rec).__name__ == "NvmeSetupCmd"]
    assert [(rec.encoding, rec.prps, rec.descriptor_bytes) for rec in told] == [("sgl1", 1, 0), ("sgl", 2, 256)]
    rows = "00700000000000000002000000000000" + "00100200000000000002000000000000"
    assert told[1].lists == f"{at:#x}:{rows}"


@pytest.mark.parametrize(("pages", "nbytes"), [(3, 256), (33, 256), (34, 4096), (129, 4096)])
def test_a_short_list_takes_256_bytes_a_long_one_a_page(pages, nbytes):
    rq = request(((4 * MIB, pages * PAGE),))
    pieces(machine_of(), rq, prps(rq.vecs))
    assert [block.nbytes for block in rq.blocks] == [nbytes]


@pytest.mark.parametrize(("room", "nbytes"), [(16, 256), (17, 4096), (256, 4096)])
def test_up_to_sixteen_descriptors_take_256_bytes(room, nbytes):
    rq = request(((0x7000, 512), (0x21000, 512)))
    pieces(machine_of(), rq, DataPointer("sgl", sgl=rq.vecs, room=room))
    assert [block.nbytes for block in rq.blocks] == [nbytes]


def test_the_submission_queue_is_a_ring():
    machine = machine_of()
    slots = [machine.driver._setup_cmd(request(((0x7000, 512),)), prps(((0x7000, 512),))) for _ in range(1026)]
    assert slots == [*range(1024), 0, 1]


def test_in_every_other_round_of_the_completion_queue_the_phase_is_the_other_one():
    machine = machine_of(profile={"queue_depth": 4})
    ends = []
    for number in range(10):
        ends += [send(machine, request(((FRAME, 512),), rq=number, tag=1))]
        machine.clock.run()
    assert ends == [[(number, 0)] for number in range(10)]


def test_lists_that_cannot_all_be_had_are_all_given_back():
    machine = machine_of()
    pool = machine.driver.pool
    while len(pool._pages) > 1:
        pool.alloc(4096)
    before = pool.in_use
    rq = request(((4 * MIB, 4 * MIB),))
    with pytest.raises(SyscallError) as caught:
        pieces(machine, rq, prps(rq.vecs))
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


shared_machine = machine_of()


@given(ranges_of())
def test_invariant_4_the_device_parses_the_prps_that_the_driver_wrote(ranges):
    rq = request(ranges)
    entries = prp_entries(ranges)
    assert all(entry % PAGE == 0 for entry in entries[1:])
    first = min(rq.nbytes, PAGE - ranges[0][0] % PAGE)
    assert len(entries) == 1 + -(-(rq.nbytes - first) // PAGE)
    found = pieces(shared_machine, rq, prps(ranges))
    assert run_length(found) == run_length(ranges)
    assert found == prps(ranges).pieces(rq.nbytes)
    shared_machine.driver._lists.free(rq.blocks)
    assert shared_machine.driver.pool.in_use == 0


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, 64)), min_size=2, max_size=256))
def test_invariant_4_and_the_sgl_too(rows):
    ranges = tuple((addr * 4, sectors * 512) for addr, sectors in rows)
    rq = request(ranges)
    assert pieces(shared_machine, rq, DataPointer("sgl", sgl=ranges, room=len(ranges))) == list(ranges)
    shared_machine.driver._lists.free(rq.blocks)
    assert shared_machine.driver.pool.in_use == 0


@pytest.mark.parametrize(("status", "error"), [(0x02, 95), (0x80, 121), (0x81, 28), (0x04, 5), (0x281, 61), (0x1FF, 5)])
def test_a_status_becomes_an_errno(status, error, monkeypatch):
    machine = machine_of()
    monkeypatch.setattr(machine.device, "_check", lambda _sqe: status)
    ended = send(machine, request(((FRAME, 4096),)))
    machine.clock.run()
    assert ended == [(1, error)]
    assert [rec.status for rec in machine.trace if type(rec).__name__ == "NvmeCompleteRq"] == [status]
    assert nothing_held(machine)


def flush_of(tag=3, rq=9):
    return Request(rq, 1, tag, 0, ((), 0, 0), write=True)


@pytest.mark.parametrize("iommu", ["off", "strict"])
def test_a_flush_is_a_command_without_memory_and_nothing_is_mapped(iommu):
    machine = machine_of(iommu)
    ended = send(machine, flush_of())
    machine.clock.run()
    assert ended == [(9, 0)]
    assert bytes(machine.ram.view(machine.driver.queues.sq_phys, 64)).hex() == "0000030001000000" + "00" * 56
    assert not [rec for rec in machine.trace if type(rec).__name__ in {"DmaMap", "DmaUnmap", "DeviceDma"}]
    assert nothing_held(machine)


@pytest.mark.parametrize(("opf", "write", "control"), [(REQ_FUA, True, CONTROL_FUA), (0, True, 0), (REQ_FUA, False, 0)])
def test_fua_is_bit_30_of_dword_12(opf, write, control):
    machine = machine_of()
    rq = request(((0x7000, 4096),), write=write)
    rq.opf = opf
    machine.driver._setup_cmd(rq, prps(rq.vecs))
    dword12 = int.from_bytes(machine.ram.view(machine.driver.queues.sq_phys + 48, 4), "little")
    assert dword12 == 7 | control << 16
    assert (control == 0) == (dword12 >> 30 & 1 == 0)


def test_map_command_and_issue_are_told_in_this_order():
    machine = machine_of("strict")
    send(machine, request(((FRAME, 4096),)))
    machine.clock.run()
    names = [type(rec).__name__ for rec in machine.trace]
    assert [name for name in names if name != "IotlbFill"] == [
        "DmaMap", "NvmeSetupCmd", "BlockRqIssue", "DeviceStart", "DeviceDma", "NvmeCompleteRq", "DmaUnmap",
    ]  # fmt: skip


def test_a_strict_unmap_takes_time_before_the_end_and_a_direct_one_none():
    ends = []
    for iommu in ("strict", "off"):
        machine = machine_of(iommu)
        rq = request(((FRAME, 4096),))
        rq.end_io = lambda _rq, _error, clock=machine.clock: ends.append(clock.now)
        machine.clock.job(machine.driver.queue_rq(rq))
        machine.clock.run()
        (unmap,) = [rec.t for rec in machine.trace if type(rec).__name__ == "DmaUnmap"]
        ends[-1] -= unmap
    assert ends == [machine.cpu.iotlb_sync, 0]


def test_a_device_that_is_full_is_asked_again_and_nothing_is_mapped():
    machine = machine_of()
    machine.device.health.refusing = 1
    with pytest.raises(SyscallError, match="BLK_STS_DEV_RESOURCE") as caught:
        next(machine.driver.queue_rq(request(((FRAME, 4096),))))
    assert caught.value.errno == errno.EBUSY
    assert nothing_held(machine)
    ended = send(machine, request(((FRAME, 4096),)))
    machine.clock.run()
    assert ended == [(1, 0)]


def flight(machine, *, n=1):
    rqs = [request(((FRAME + at * PAGE, PAGE),), tag=at, rq=at + 1) for at in range(n)]
    ended = send(machine, *rqs)
    machine.clock.run()
    return rqs, ended


def test_rule_nvme_9_a_lost_interrupt_is_found_when_the_time_is_over():
    machine = machine_of()
    machine.device.health.losing = 1
    (rq,), ended = flight(machine)
    assert (ended, machine.driver.outstanding) == ([], 1)
    assert machine.driver.timeout(rq) is DONE
    machine.clock.run()
    assert (machine.driver.action, ended) == ("completion polled", [(1, 0)])
    assert nothing_held(machine)


def test_the_next_interrupt_finds_the_completion_of_a_lost_one():
    machine = machine_of()
    machine.device.health.losing = 1
    _, ended = flight(machine, n=2)
    assert ended == [(1, 0), (2, 0)]


def test_rule_nvme_9_a_stuck_command_is_aborted_and_ends_with_eio():
    machine = machine_of()
    machine.device.health.stuck = 1
    (rq,), ended = flight(machine)
    assert machine.driver.timeout(rq) is AGAIN
    machine.clock.run()
    assert (machine.driver.action, ended) == ("abort", [(1, errno.EIO)])
    assert [rec.status for rec in machine.trace if type(rec).__name__ == "NvmeCompleteRq"] == [0x07]
    assert nothing_held(machine)


def test_rule_nvme_9_the_second_time_the_controller_is_reset_and_works_again(monkeypatch):
    machine = machine_of()
    machine.device.health.stuck = 2
    monkeypatch.setattr(machine.device, "abort", lambda _cid: None)  # it may be too late for that
    (rq, _), ended = flight(machine, n=2)
    assert [machine.driver.timeout(rq), machine.driver.timeout(rq)] == [AGAIN, DONE]
    machine.clock.run()
    assert (machine.driver.action, ended) == ("reset controller", [(1, errno.EIO), (2, errno.EIO)])
    assert nothing_held(machine)
    assert flight(machine, n=2)[1] == [(1, 0), (2, 0)]


def test_a_wedged_controller_is_dead_after_its_reset_and_so_are_later_requests():
    machine = machine_of()
    machine.device.health.wedged = True
    (rq,), ended = flight(machine)
    assert [machine.driver.timeout(rq), machine.driver.timeout(rq)] == [AGAIN, DONE]
    machine.clock.run()
    assert (machine.driver.action, ended) == ("reset failed: controller is dead", [(1, errno.EIO)])
    with pytest.raises(SyscallError, match="finds its controller dead") as caught:
        next(machine.driver.queue_rq(rq))
    assert caught.value.errno == errno.EIO
    assert nothing_held(machine)


def test_a_controller_that_is_gone_is_given_up_at_once():
    machine = machine_of()
    ended = send(machine, *(request(((FRAME + at * PAGE, PAGE),), tag=at, rq=at + 1) for at in range(2)))
    machine.clock.run(until=10_000)
    machine.device.health.gone = True
    assert machine.driver.timeout(machine.driver._flying[0]) is DONE
    machine.clock.run()
    assert (machine.driver.action, ended) == ("controller is gone", [(1, errno.EIO), (2, errno.EIO)])
    assert nothing_held(machine)


def test_a_controller_that_dies_while_a_command_is_written_gets_none():
    machine = machine_of()
    steps = machine.driver.queue_rq(request(((FRAME, 4096),)))
    next(steps)
    machine.driver.remove()
    with pytest.raises(SyscallError, match="dead"):
        list(steps)
    assert nothing_held(machine)
