import errno

import pytest

from labkit.errors import SyscallError
from labkit.kernel.drivers.ahci.driver import MOST_RETRIES, PORT_BYTES, Port
from labkit.kernel.drivers.ops import Request
from labkit.machine import Machine


def machine_of(**knobs):
    return Machine(device="ahci", ram="128 MiB", fragmentation=0, **knobs)


def ran(name, **knobs):
    with machine_of(**knobs) as machine:
        report = machine.run()
        machine.clock.run()
        return machine, report, [rec for rec in machine.trace.records if type(rec).__name__ == name]


def test_the_memory_of_a_port_is_a_list_received_fises_and_a_table_for_each_slot():
    assert (Port(0, 0).received, Port(0, 0).table(0), Port(0, 0).table(1)) == (1024, 1280, 4096)
    assert PORT_BYTES == 1280 + 32 * 2816


def test_pages_go_by_a_scatterlist_that_an_iommu_makes_few_of_and_ranges_go_as_one():
    _, _, (sg,) = ran("DmaMap", system="page", iommu="strict", size="256 KiB")
    assert (sg.how, [n for _, n in sg.dma]) == ("sg", [65536] * 4)
    _, _, (one,) = ran("DmaMap", system="phyr", iommu="strict", size="256 KiB")
    assert one.how in {"iova", "phys"}
    assert sum(n for _, n in one.dma) == 262144


def test_the_record_of_the_issue_has_the_bytes_that_lie_in_memory():
    machine, _, (issue,) = ran("AtaQcIssue", dma="direct", size=4096, offset=4096)
    table = machine.driver.port.phys + machine.driver.port.table(issue.tag)
    assert bytes(machine.ram.view(table, 20)).hex() == issue.fis
    assert bytes(machine.ram.view(table + 128, 16 * issue.entries)).hex() == issue.prdt
    assert (issue.entries, issue.descriptor_bytes) == (1, 16)


def test_what_the_drive_says_is_told_with_its_registers():
    _, _, (done,) = ran("AtaQcCompleteDone", size=4096)
    assert (done.status, done.error) == (0x50, 0)


def test_an_unreadable_sector_is_enodata_at_once_and_is_not_tried_again():
    with machine_of(size=4096) as machine:
        machine.device.health.bad.append((0, 1))
        report = machine.run()
        told = [rec for rec in machine.trace.records if type(rec).__name__ == "AtaQcCompleteDone"]
    assert report["result"] == "-ENODATA"
    assert [(rec.status, rec.error) for rec in told] == [(0x41, 0x40)]


def test_a_command_that_never_ends_well_is_sent_six_times_and_is_eio():
    with machine_of(size=4096) as machine:
        machine.device.health.short = 100
        report = machine.run()
        issues = [rec for rec in machine.trace.records if type(rec).__name__ == "AtaQcIssue"]
    assert (report["result"], len(issues)) == ("-EIO", 1 + MOST_RETRIES)
    assert machine.driver.outstanding == 0


def test_a_reset_sends_everything_that_was_on_its_way_again():
    with machine_of() as machine:
        ended = []
        machine.device.health.stuck = 1
        for tag in range(3):
            rq = Request(tag + 1, 1, tag, tag * 8, (((0x6400000 + tag * 4096, 4096),), 4096, 1), write=False)
            rq.end_io = lambda rq, error: ended.append((rq.rq, error))
            machine.clock.job(machine.driver.queue_rq(rq))
            if tag == 0:
                first = rq
        while len(machine.driver.started) < 3:
            machine.clock.step()
        machine.driver.timeout(first)
        machine.clock.run()
    assert sorted(ended) == [(1, 0), (2, 0), (3, 0)]
    assert machine.driver.outstanding == 0


def test_a_flush_waits_for_queued_commands():
    with machine_of() as machine:
        read = Request(1, 1, 0, 0, (((0x6400000, 4096),), 4096, 1), write=False)
        machine.clock.run(until=machine.clock.job(machine.driver.queue_rq(read)))
        flush = Request(2, 1, 1, 0, ((), 0, 0), write=True)
        with pytest.raises(SyscallError, match="has to wait for the commands before it") as caught:
            list(machine.driver.queue_rq(flush))
        assert caught.value.errno == errno.EBUSY
        machine.clock.run()
        machine.clock.job(machine.driver.queue_rq(flush))
        machine.clock.run()
    assert machine.driver.outstanding == 0


def test_without_queuing_the_commands_are_those_of_old():
    _, report, (issue,) = ran("AtaQcIssue", size=4096, profile={"queue_depth": 1})
    assert report["verified"]
    assert issue.fis[4:6] == "25"
