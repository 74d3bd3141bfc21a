import re
from random import Random

import pytest

from labkit.lessons import kinds
from labkit.lessons.kinds import FOREIGN, GAINED, GONE, GPU_PHYR, GPU_TODAY, SECRET, ZERO, gained, said
from labkit.machine import Machine
from labkit.machine.kinds import table


def ask(maker, n=60):
    rng = Random(3)
    return [maker(rng) for _ in range(n)]


def run(**knobs):
    return Machine(size="64 KiB", seed=7, **knobs).run()


def test_a_gpu_is_efault_today_and_works_as_phyrs():
    assert GPU_TODAY.check(run(system="page", folio="gpu"), "EFAULT") == "Yes: EFAULT."
    assert GPU_PHYR.check(run(system="phyr", folio="gpu"), "works") == "Yes: works."


def test_secret_memory_stays_secret():
    assert SECRET.check(run(system="phyr", folio="secretmem", op="write"), "EFAULT") == "Yes: EFAULT."


def test_the_zero_page_is_not_counted_today():
    assert ZERO.check(run(system="page", folio="zero", op="write"), 0) == "Yes: 0."


def test_foreign_pages_are_one_range_here_and_sixteen_there():
    report = run(system="page", folio="foreign", iommu="off")
    assert len(report["phyrs"]) == 1
    assert FOREIGN.check(report, 16) == "Yes: 16."


def test_three_kinds_are_gained():
    assert {row.name for row in gained(table())} == {"gpu", "vfio", "hidden"}
    assert GAINED.check(table(), 3) == "Yes: 3."


def test_memory_of_a_device_that_is_gone_is_enodev():
    machine = Machine(system="phyr", seed=7)
    task = machine.task()
    buf, fd = task.mmap("64 KiB", folio="gpu"), task.open("/dev/nvme0n1")
    assert machine.slots.unplug("gpu0") == ()
    with pytest.raises(OSError, match="whose owner has revoked it") as caught:
        task.pread(fd, buf, "64 KiB")
    assert GONE.check(caught.value, "ENODEV") == "Yes: ENODEV."


def test_results_are_those_of_a_run():
    for each in ask(kinds._result):
        row = next(row for row in table() if each.text.startswith(row.what.rstrip(".")))
        system = "phyr" if "as phyrs" in each.text else "page"
        op = re.search(r"O_DIRECT (\w+) ", each.text)[1]
        if row.name != "hugetlb1g":  # asks for a machine of its own size
            report = Machine(size="4 KiB", seed=7, system=system, op=op, folio=row.name).run()
            assert said(report) == each.answer


def test_the_owner_of_a_device_waits_for_a_lease_alone():
    outcomes = {"range": "refused", "lease": "waited", "none": "done"}
    for each in ask(kinds._unplug, 12):
        assert each.answer == outcomes[re.search(r"policy (\w+)\.", each.text)[1]]


def test_who_has_struct_pages():
    for each in ask(kinds._struct_pages):
        without = re.search(r"BAR|mem=", each.text)
        assert each.answer == ("no" if without else "yes")
