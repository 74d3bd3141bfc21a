from labkit.machine import Machine


def test_whoever_reads_is_busy_until_the_copy_is_done_and_there_is_no_interrupt():
    with Machine(device="pmem", ram="128 MiB", fragmentation=0, size=3584) as machine:
        assert machine.run()["verified"]
        times = {type(rec).__name__: rec.t for rec in machine.trace.records}
    assert times["PmemSubmitBio"] - times["BlockRqIssue"] == 305 + 91  # the latency, 3584 bytes at 39
    assert times["BlockRqComplete"] - times["PmemSubmitBio"] == 5  # a vector


def test_16_mib_are_one_request():
    with Machine(device="pmem", ram="256 MiB", fragmentation=0, size="16 MiB", folio="2MiB") as machine:
        assert machine.run()["verified"]
        issued = [rec.nr_sector for rec in machine.trace.records if type(rec).__name__ == "BlockRqIssue"]
    assert issued == [32768]


def test_nothing_is_mapped_for_dma_however_it_would_be():
    with Machine(device="pmem", ram="128 MiB", fragmentation=0, dma="swiotlb") as machine:
        assert machine.run()["verified"]
        assert machine.dma is None
        assert [rec for rec in machine.trace.records if type(rec).__name__ == "DmaMap"] == []
