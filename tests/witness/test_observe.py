"""Events of a trace instance as those of a capture: since when, by whom, and what is somebody else's."""

from labkit.host.watch.tracefs.formats import Event
from labkit.witness.observe import rows

ME, JOURNAL, IRQ = 100, 7, 0
HERE = {"dev": 7340032, "rwbs": "RS"}


def event(t, name, pid, **fields):
    return Event(t, 1, f"block:block_{name}", pid, fields)


def queue(t, pid, sector, nr_sector, comm="python"):
    return event(t, "bio_queue", pid, sector=sector, nr_sector=nr_sector, comm=comm, **HERE)


def owners(*events):
    return [row["by"] for row in rows(events, 0, ME)]


def test_times_count_from_the_call_and_fields_stay_as_they_are():
    (row,) = rows([queue(1500, ME, 8, 16)], 1000, ME)
    assert row == {
        "t_ns": 500, "cpu": 1, "event": "block:block_bio_queue", "by": "submitter", "common_pid": ME,
        "sector": 8, "nr_sector": 16, "comm": "python", **HERE,
    }  # fmt: skip


def test_what_an_interrupt_ends_for_us_is_by_another():
    assert owners(queue(1, ME, 8, 16), event(2, "rq_complete", IRQ, sector=8, nr_sector=16)) == ["submitter", "other"]


def test_a_worker_of_the_ring_is_ours_by_its_name():
    worker = queue(2, 555, 8, 16, f"iou-wrk-{ME}")
    assert owners(worker, event(3, "rq_issue", 555, sector=8, nr_sector=16)) == ["other", "other"]
    assert owners(queue(2, 555, 8, 16, "iou-wrk-101")) == ["foreign"]


def test_all_that_becomes_of_a_strangers_bio_is_foreign_whoever_does_it():
    journal = queue(1, JOURNAL, 1000, 64, "jbd2/loop0-8")
    split = event(2, "rq_issue", IRQ, sector=1032, nr_sector=32)
    assert owners(queue(0, ME, 1064, 8), journal, split, event(3, "rq_complete", IRQ, sector=1064, nr_sector=8)) == [
        "submitter", "foreign", "foreign", "other"
    ]  # fmt: skip


def test_what_touches_sectors_that_nobody_here_asked_for_is_foreign_though_its_bio_came_before():
    late = event(2, "rq_issue", JOURNAL, sector=24, nr_sector=8, comm="jbd2/loop0-8")
    assert owners(queue(1, ME, 8, 16), late) == ["submitter", "foreign"]


def test_on_the_same_sectors_the_strangers_thread_is_foreign_and_our_worker_is_not():
    worker = f"iou-wrk-{ME}"
    both = queue(1, 555, 8, 16, worker), queue(2, JOURNAL, 8, 16, "dd")
    ours = event(3, "split", 555, sector=8, new_sector=16, comm=worker)
    theirs = event(4, "rq_issue", JOURNAL, sector=8, nr_sector=16, comm="dd")
    assert owners(*both, ours, theirs) == ["other", "foreign", "other", "foreign"]


def test_a_stranger_may_issue_what_waits_of_ours():
    issue = event(3, "rq_issue", JOURNAL, sector=8, nr_sector=16, comm="dd")
    assert owners(queue(1, ME, 8, 16), queue(2, JOURNAL, 1000, 8, "dd"), issue) == ["submitter", "foreign", "other"]


def test_a_flush_is_foreign_and_a_plug_is_the_submitters():
    flush = event(1, "rq_complete", IRQ, sector=(1 << 64) - 1, nr_sector=0, rwbs="FF")
    done = event(1, "io_done", IRQ, sector=0, nr_sector=0, rwbs="RS")
    assert owners(flush, done, event(2, "plug", ME, comm="python")) == ["foreign", "other", "submitter"]


def test_pointers_of_the_kernel_become_small_numbers_that_tell_them_apart():
    events = [Event(t, 0, "io_uring:io_uring_submit_req", ME, {"req": 0xFFFF_8880_0000_0000 + at, "user_data": at})
              for t, at in enumerate((1, 2, 1))]  # fmt: skip
    found = [row["req"] for row in rows(events, 0, ME)]
    assert found[0] == found[2] != found[1]
    assert max(found) < 10
