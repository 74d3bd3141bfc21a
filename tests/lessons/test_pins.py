import re
from random import Random

import pytest

from labkit.kernel.mm.frames.folio import Folio
from labkit.kernel.mm.pin.policies import POLICIES
from labkit.lessons import pins
from labkit.lessons.pins import ATOMICS, FORK, LARGE, LEASED, LOOKS, MIGRATE, MUNMAP, PINS, REFCOUNT
from labkit.machine import Machine
from labkit.trace.blame import who_holds
from labkit.trace.events import GupPin


def ask(maker, n=40):
    rng = Random(3)
    return [maker(rng) for _ in range(n)]


def numbers(each):
    return [int(word) for word in re.findall(r"\d+", each.text)]


def under_each(hazard):
    return {pin: Machine(hazard=hazard, pin=pin, size="64 KiB", seed=7).run() for pin in POLICIES}


def test_vector_v6_three_pins_of_a_page_are_3073():
    page = Folio(7, 0, refcount=1)
    page.pin(3)
    assert REFCOUNT.check(page, 3073) == "Yes: 3073."


def test_a_large_folio_counts_its_pins_apart():
    folio = Folio(16, 4, refcount=16)
    folio.pin(16)
    assert LARGE.check(folio, 32) == "Yes: 32."


def test_vector_v6_1200_plain_references_look_like_a_pin():
    assert LOOKS.check(Folio(8, 0, refcount=1200), "yes") == "Yes: yes."
    assert LOOKS.check(Folio(8, 0, refcount=1023), "no") == "Yes: no."
    assert LOOKS.check(Folio(16, 4, refcount=1200), "no") == "Yes: no."


def test_4_mib_as_pages_are_four_pins_and_who_tells_until_when():
    machine = Machine(system="page", size="4 MiB", fragmentation=1, seed=7)
    machine.run()
    taken = machine.trace.of(GupPin)
    assert PINS.check(taken, 4) == "Yes: 4."
    frame = taken[-1].ranges[-1][0] >> 12
    assert who_holds(machine.trace, frame, 0) == who_holds(machine.trace, frame, machine.trace.end) == ()
    (told,) = who_holds(machine.trace, frame, 1_000_000)
    assert re.fullmatch(r"IO 1 \(pread64\) since [\d.]+ µs, policy page, until GupUnpin at [\d.]+ ms", str(told))


def test_a_pin_that_nobody_lets_go_of_is_told_so():
    machine = Machine(hazard="missing-unpin", size="16 KiB", seed=7)
    machine.run()
    pin = machine.trace.of(GupPin)[0]
    cut = type(machine.trace)(tuple(rec for rec in machine.trace if type(rec).__name__ != "GupUnpin"))
    assert str(who_holds(cut, pin.ranges[0][0] >> 12, pin.t)[0]).endswith("and no event lets go of it")


def test_folios_are_counted_32_times_for_2_mib():
    task = Machine(fragmentation=1, seed=7).task()
    buf = task.mmap("2 MiB", folio="64 KiB")
    task.store(buf, bytes(2 << 20))
    cost = POLICIES["folio"].pin(task.mm, pins.get_user_phyrs(task.mm, buf, 2 << 20, write=True).phyrs)
    assert ATOMICS.check(cost, 32) == "Yes: 32."


@pytest.mark.parametrize("hazard", ["munmap", "migrate", "fork", "truncate"])
def test_one_of_the_five_policies_keeps_nothing(hazard):
    reports = under_each(hazard)
    assert [pin for pin, report in reports.items() if report["violations"]] == ["none"]
    assert MUNMAP.check(reports, 1) == "Yes: 1."


def test_a_pin_refuses_and_a_lease_waits():
    reports = under_each("migrate")
    assert MIGRATE.check(reports["page"], "refused") == "Yes: refused."
    assert LEASED.check(reports["lease"], "waited") == "Yes: waited."


@pytest.mark.parametrize(("pin", "who_has_it"), [("page", "parent"), ("range", "parent"), ("none", "child")])
def test_whose_page_the_drive_writes_to_after_a_fork(pin, who_has_it):
    machine = Machine(hazard="fork", pin=pin, size="64 KiB", seed=7)
    machine.run()
    assert FORK.check(machine.trace, who_has_it) == f"Yes: {who_has_it}."


def test_counts_of_small_and_large_folios_by_hand():
    for each in ask(pins._small):
        maps, taken = numbers(each)
        assert each.answer == maps + 1024 * taken
    for each in ask(pins._large):
        _, entries, taken = numbers(each)
        assert each.answer == entries + taken
    for each in ask(pins._how_many):
        assert each.answer == numbers(each)[1] // 1024


def test_looks_by_hand():
    for each in ask(pins._looks):
        order, refs, _ = numbers(each)
        assert each.answer == ("yes" if order == 0 and refs >= 1024 else "no")


def test_costs_of_four_scattered_folios_by_hand():
    costs = {"page": 64, "folio": 4, "range": 4, "lease": 1, "none": 0}
    for each in ask(pins._cost):
        assert each.answer == costs[re.search(r"policy (\w+):", each.text)[1]]


def test_what_a_policy_keeps_from_happening_by_hand():
    counted = {"migration", "fork", "reclaim", "ksm", "unplug"}
    every = counted | {"munmap", "truncate"}
    stops = dict.fromkeys(("page", "folio", "range"), counted) | {"lease": every, "none": set()}
    for each in ask(pins._blocks):
        policy, event = re.search(r"policy (\w+)\. Does that keep (\w+) ", each.text).groups()
        assert each.answer == ("yes" if event in stops[policy] else "no")


def test_who_survives_what_by_hand():
    for each in ask(pins._survives):
        safe = not each.text.startswith("Policy none") and "a bug" not in each.text
        assert each.answer == ("yes" if safe else "no")


def test_what_comes_of_it_by_hand():
    for each in ask(pins._outcome):
        act = "truncate" if "truncates" in each.text else "migrate" if "compaction" in each.text else "munmap"
        held = {"munmap": "done", "migrate": "refused", "truncate": "orphaned"}[act]
        assert each.answer == ("waited" if "policy lease" in each.text else held)
