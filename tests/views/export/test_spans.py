from labkit.machine import Machine
from labkit.trace.events import BlockBioQueue, BlockGetrq, BlockRqIssue, BlockRqMerge, SysEnter
from labkit.trace.trace import Trace
from labkit.views.export.spans import spans


def test_a_bio_lasts_from_its_queue_to_the_end_of_its_last_request(one):
    found = spans(one)
    (bio,), (first, second) = found.bios, found.requests
    assert (bio.begin, bio.until) == (found.flows[0].bio.begin, second.until)
    assert first.until < second.until <= found.calls[0].until
    assert [(flow.bio, flow.request) for flow in found.flows] == [(bio, first), (bio, second)]
    assert (first.args["nr_sector"], first.args["error"], found.calls[0].args["ret"]) == (256, 0, 262144)


def test_a_request_waits_is_issued_is_served_and_its_bytes_have_moved(one):
    for request in spans(one).requests:
        assert [name for _, name in request.steps] == ["waiting", "issued", "served", "moved"]
        assert [t for t, _ in request.steps] == sorted(t for t, _ in request.steps)
        assert request.begin == request.steps[0][0]


def test_bios_that_join_a_request_end_with_it():
    machine = Machine(ram="64 MiB", fragmentation=0)
    task = machine.task()
    fd, ring, buf = task.open("/dev/nvme0n1"), task.io_uring(), task.mmap("32 KiB")
    for at in range(0, 32768, 4096):
        ring.read(fd, buf + at, 4096, at)
    ring.submit()
    found = spans(machine.trace)
    assert (len(found.bios), len(found.requests), len(found.flows)) == (8, 1, 8)
    assert {bio.until for bio in found.bios} == {found.requests[0].until}


def test_the_pieces_of_a_stripe_are_bios_of_their_own():
    machine = Machine(ram="64 MiB", fragmentation=0, size="256 KiB", stack="stripe")
    machine.run()
    found = spans(machine.trace)
    assert [bio.args["nr_sector"] for bio in found.bios] == [128] * 4
    assert [flow.bio for flow in found.flows] == found.bios


def test_a_request_that_its_neighbour_takes_in_ends_and_its_bio_goes_on():
    records = [
        BlockBioQueue(1, 1, 1, 0, 8, 1, 0, "R"),
        BlockGetrq(2, 1, 1, 1, 0, 0, 8, 1),
        BlockBioQueue(3, 2, 2, 8, 8, 1, 0, "R"),
        BlockGetrq(4, 2, 2, 2, 1, 8, 8, 1),
        BlockRqMerge(5, 1, 1, 2, 1, 0, 16),
        BlockRqIssue(9, 1, 1, 0, 0, 16),
    ]
    found = spans(Trace(tuple(records)))
    assert [(request.begin, request.until) for request in found.requests] == [(2, 9), (4, 5)]
    assert found.requests[1].args["merged_into"] == 1
    assert [(flow.t, flow.bio.args["bio"], flow.request.args["rq"]) for flow in found.flows] == [
        (2, 1, 1),
        (4, 2, 2),
        (5, 2, 1),
    ]


def test_what_goes_on_at_the_end_of_the_trace_says_so():
    found = spans(Trace((SysEnter(1, 1, "pread64", 3, 0, 4096, 0), BlockRqIssue(7, 1, 5, 0, 0, 8))))
    assert [(call.until, call.args["unfinished"]) for call in found.calls] == [(7, True)]
    assert found.requests == []


def test_no_records_are_no_spans():
    found = spans(Trace(()))
    assert (found.calls, found.bios, found.requests, found.flows) == ([], [], [], [])
