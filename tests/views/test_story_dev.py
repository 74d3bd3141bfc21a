import pytest

from labkit.trace.events import (
    AtaQcCompleteDone,
    AtaQcIssue,
    BlkMqRqTimedOut,
    DmaMap,
    DmaUnmap,
    Fault,
    IoPageFault,
    IotlbFill,
    NvmeSetupCmd,
    PmemSubmitBio,
    SwiotlbBounced,
    VirtblkDone,
    VirtqueueAdd,
)
from labkit.trace.trace import Trace
from labkit.views.story import story

ONE, TWO = ((0x4000, 4096),), ((0x4000, 4096), (0x9000, 4096))
TOLD = [
    (DmaMap(0, 1, 1, ((0xFFFF_0000, 8192),), TWO, 2, 0, 0, 16, "iova", 2),
     "The memory of request 1, two ranges, becomes one device address, 8 KiB from 0xffff_0000 on.", "dma_iova_link"),
    (DmaMap(0, 1, 1, ONE, ONE, 0, 0, 0, 0, "bus"),
     ("The memory of request 1, one range, becomes one device address, 4 KiB from 0x4000 on, which a peer answers to "
     "itself."), "pci_p2pdma_bus_addr_map"),
    (DmaMap(0, 1, 1, ((0x1000, 4096),), ONE, 1, 0, 0, 0, "phys", 0, 4096),
     ("The memory of request 1, one range, becomes one device address, 4 KiB from 0x1000 on; 4 KiB are copied there "
     "first (SWI-3)."), "dma_map_phys"),
    (DmaMap(0, 1, 1, ((0xFFFF_0000, 4096),), ONE, 0, 0, 0, 0, "premapped"),
     "The memory of request 1 has been mapped long before: one device address, 4 KiB from 0xffff_0000 on.", ""),
    (DmaMap(0, 0, -1, ((0xFFFF_0000, 4096),), ONE, 1, 0, 0, 0, "premapped"),
     "The memory of registration 1, one range, becomes one device address, 4 KiB from 0xffff_0000 on.", ""),
    (DmaMap(0, 1, 1, (), ONE, 0, 0, 0, 0), "The memory of request 1 needs no device address.", "dma_map_phys"),
    (DmaUnmap(0, 1, 1, 0, stale=False, bounced=512),
     "The device addresses of request 1 are given back; 512 B are copied back (SWI-3).", "dma_unmap_phys"),
    (SwiotlbBounced(0, 0, 0x1_4000_0000, 0x3000, 4096),
     "4 KiB at 0x1_4000_0000 are not for the device: it gets 0x3000 (SWI-1).",
     "swiotlb_tbl_map_single"),
    (IoPageFault(0, 1, 1, 0xFFFF_0000, write=True),
     "The device asks to write 0xffff_0000, and nothing answers there: the transfer ends in an error.",
     "report_iommu_fault"),
    (NvmeSetupCmd(0, 1, 1, 3, 8, 65536, 0x8000, 0x200, 2, 256, "", "sgl"),
     "Command 3 is written for the drive: 64 KiB from block 8, two SGL descriptors in a list at 0x8000.",
     "nvme_setup_cmd"),
    (NvmeSetupCmd(0, 1, 1, 3, 8, 65536, 0x8000, 0x200, 1, 0, "", "sgl1"),
     "Command 3 is written for the drive: 64 KiB from block 8, one SGL descriptor in the command itself.",
     "nvme_setup_cmd"),
    (VirtqueueAdd(0, 1, 1, 5, 8, 8192, True, 4, 64, "", ""),
     "Four descriptors for request 1, 8 KiB, stand in a table of its own, behind one: slot 5.", "virtqueue_add_sgs"),
    (VirtblkDone(0, 1, 1, 5, 0, 8193), "The device has used slot 5, and wrote 8,193 bytes: success.", "virtblk_done"),
    (VirtblkDone(0, 1, 1, 5, 1, 1), "The device has used slot 5, and wrote one byte: status 1.", "virtblk_done"),
    (AtaQcIssue(0, 1, 1, 2, 8, 8192, 1, 16, "", ""),
     "Slot 2 of AHCI holds request 1: 8 KiB, one entry in its table.", "ahci_qc_issue"),
    (AtaQcCompleteDone(0, 1, 1, 2, 0x50, 0), "Slot 2 of AHCI is over: success.", "ata_qc_complete"),
    (AtaQcCompleteDone(0, 1, 1, 2, 0x51, 0x40), "Slot 2 of AHCI is over: status 0x51, error 0x40.", "ata_qc_complete"),
    (PmemSubmitBio(0, 1, 1, write=True, len=4096),
     "A CPU copies 4 KiB of request 1 into persistent memory: no device, no DMA.", "pmem_submit_bio"),
    (BlkMqRqTimedOut(0, 1, 1, "the command is aborted"),
     "Request 1 has been with its driver for too long: the command is aborted.", "blk_mq_rq_timed_out"),
]  # fmt: skip


@pytest.mark.parametrize(("rec", "text", "function"), TOLD, ids=[type(row[0]).__name__ for row in TOLD])
def test_what_happens_below_the_block_layer_is_told_with_its_function(rec, text, function):
    (line,) = story(Trace((rec,), meta={"kernel": "7.3"}))
    assert (line.text, line.function, line.origin) == (text, function, "upstream 7.3")


@pytest.mark.parametrize(
    ("rec", "text"),
    [
        (
            IotlbFill(0, 1, 1, TWO, ONE, 30, 2),
            (
                "The IOTLB translates for request 1: 30 hits, two misses, translations of 8 KiB learned, of 4 KiB "
                "forgotten to make room."
            ),
        ),
        (Fault(0, 1, "unplug", "the drive is gone."), "Something breaks (unplug): the drive is gone."),
    ],
)
def test_what_no_kernel_records_is_told_as_ours(rec, text):
    (line,) = story(Trace((rec,), meta={"kernel": "7.3"}))
    assert (line.text, line.function, line.origin) == (text, "", "ours")
