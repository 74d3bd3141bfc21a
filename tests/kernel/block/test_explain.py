from labkit.kernel.block.explain import explain
from labkit.kernel.block.limits import QueueLimits, nvme_limits


def told(limits):
    return {row.name: (row.value, row.sentence, row.rule) for row in explain(limits)}


def test_every_limit_that_a_bio_meets_is_told_with_its_rule():
    assert [(row.name, row.rule) for row in explain(QueueLimits())] == [
        ("logical_block_size", "LIM-1"), ("physical_block_size", "LIM-1"), ("dma_alignment", "LIM-4"),
        ("max_hw_sectors", "LIM-2"), ("max_sectors", "LIM-2"), ("max_segments", "LIM-3"), ("max_segment_size", "LIM-3"),
        ("virt_boundary_mask", "SPLIT-3"), ("seg_boundary_mask", "LIM-3"), ("chunk_sectors", "SPLIT-2"),
        ("nomerges", "R14"), ("nr_requests", "MQ-2"), ("write_cache", "LIM-4"), ("atomic_write_unit_max", "SPLIT-2"),
    ]  # fmt: skip


def test_a_drive_behind_an_iommu_is_told_in_its_own_numbers():
    rows = told(nvme_limits(512 << 10, depth=1024, opt_mapping_size=128 << 10))
    assert rows["max_sectors"] == (
        "256 sectors, 128 KiB", "A larger bio is split; this is all the hardware takes.", "LIM-2",
    )  # fmt: skip
    assert rows["max_segments"][1] == "Of single pages that do not touch, a request holds 132 KiB at most."
    assert rows["max_segment_size"][:2] == ("unlimited", "Memory that is contiguous is one segment, however long.")
    assert rows["virt_boundary_mask"][:2] == ("0xfff", "A joint that is not at a multiple of 4 KiB splits the bio.")
    assert rows["dma_alignment"][:2] == ("0x3", "Memory begins at a multiple of 4 B.")
    assert rows["nr_requests"][1] == "With 1023 requests on their way the next one waits for a tag."


def test_what_is_there_and_what_is_not_have_each_their_sentence():
    plain, rich = (
        told(limits)
        for limits in (
            QueueLimits(max_hw_sectors=8192, max_user_sectors=256, physical_block_size=4096),
            QueueLimits(
                write_cache=True, fua=True, chunk_sectors=256, nomerges=2, max_hw_sectors=2048,
                atomic_write_unit_min=512, atomic_write_unit_max=16384,
            ),
        )
    )  # fmt: skip
    assert plain["write_cache"][:2] == ("write through", "What is written is safe when the write ends.")
    assert rich["write_cache"][1] == "What is written may be lost with the power: a write with FUA is safe."
    assert plain["chunk_sectors"][:2] == ("0", "Requests may lie anywhere on the device.")
    assert rich["chunk_sectors"][0] == "256 sectors, 128 KiB"
    assert plain["max_sectors"][1] == "A larger bio is split; this is less than the hardware takes."
    assert plain["physical_block_size"][1].endswith("a smaller write makes the device read first.")
    assert plain["atomic_write_unit_max"][0] == "0"
    assert rich["atomic_write_unit_max"][:2] == (
        "16 KiB", "A write of 512 B to 16 KiB, a power of two and aligned to itself, is all there or not at all.",
    )  # fmt: skip
    assert rich["nomerges"][:2] == ("2", "No bio joins another.")


def test_a_cache_without_fua_is_safe_after_a_flush_alone():
    text = "What is written may be lost with the power: nothing is safe before a flush."
    assert told(QueueLimits(write_cache=True))["write_cache"] == ("write back", text, "LIM-4")
