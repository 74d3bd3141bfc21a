"""Records of DMA, drivers and devices become sentences."""

from collections.abc import Callable
from typing import Any

from labkit.trace.events import (
    AtaQcCompleteDone,
    AtaQcIssue,
    BlkMqRqTimedOut,
    DeviceDma,
    DeviceStart,
    DmaMap,
    DmaUnmap,
    Fault,
    IoPageFault,
    IotlbFill,
    IotlbFlush,
    LoRwAio,
    NvmeCompleteRq,
    NvmeSetupCmd,
    PmemSubmitBio,
    Ranges,
    SwiotlbBounced,
    VirtblkDone,
    VirtqueueAdd,
)
from labkit.units import human_bytes
from labkit.views.words import address, capital, count

_MAPS = {
    "phys": "dma_map_phys", "iova": "dma_iova_link", "sg": "dma_map_sgtable", "bus": "pci_p2pdma_bus_addr_map",
    "premapped": "",
}  # fmt: skip
"""The kernel's function for each way to map."""
OURS_DEV = (IotlbFill, Fault)
"""Records that the kernel has none like."""
_ATA_OK = 0x50


def _size(ranges: Ranges) -> str:
    return human_bytes(sum(nbytes for _, nbytes in ranges))


def _whose(rq: int) -> str:
    """Return whose memory is mapped: negative numbers are registrations."""
    return f"request {rq}" if rq >= 0 else f"registration {-rq}"


def _map(rec: DmaMap) -> str:
    if not rec.dma:
        return f"The memory of {_whose(rec.rq)} needs no device address."
    addresses = count(len(rec.dma), "device address", "device addresses")
    into = f"{addresses}, {_size(rec.dma)} from {address(rec.dma[0][0])} on"
    if rec.how == "premapped" and rec.rq >= 0:
        return f"The memory of {_whose(rec.rq)} has been mapped long before: {into}."
    also = ", which a peer answers to itself" if rec.how == "bus" else ""
    if rec.bounced:
        also += f"; {human_bytes(rec.bounced)} are copied there first (SWI-3)"
    return f"The memory of {_whose(rec.rq)}, {count(len(rec.phys), 'range')}, becomes {into}{also}."


def _unmap(rec: DmaUnmap) -> str:
    after = ", yet stay in the IOTLB until it is flushed" if rec.stale else ""
    copied = f"; {human_bytes(rec.bounced)} are copied back (SWI-3)" if rec.bounced else ""
    return f"The device addresses of {_whose(rec.rq)} are given back{after}{copied}."


def _bounce(rec: SwiotlbBounced) -> str:
    return f"{human_bytes(rec.len)} at {address(rec.phys)} are not for the device: it gets {address(rec.slot)} (SWI-1)."


def _flush(rec: IotlbFlush) -> str:
    return f"The IOTLB is flushed, {count(rec.syncs, 'time')}: every stale device address is dead."


def _fill(rec: IotlbFill) -> str:
    told = [f"{count(rec.hits, 'hit')}, {count(rec.misses, 'miss', 'misses')}"]
    told += [f"translations of {_size(rec.filled)} learned"] if rec.filled else []
    told += [f"of {_size(rec.evicted)} forgotten to make room"] if rec.evicted else []
    return f"The IOTLB translates for {_whose(rec.rq)}: {', '.join(told)}."


def _page_fault(rec: IoPageFault) -> str:
    verb = "write" if rec.write else "read"
    return f"The device asks to {verb} {address(rec.addr)}, and nothing answers there: the transfer ends in an error."


def _setup(rec: NvmeSetupCmd) -> str:
    what = f"Command {rec.cid} is written for the drive: {human_bytes(rec.length)} from block {rec.slba:,}"
    if rec.encoding != "prp":
        where = "in the command itself" if rec.encoding == "sgl1" else f"in a list at {address(rec.prp1)}"
        return f"{what}, {count(rec.prps, 'SGL descriptor')} {where}."
    return f"{what}, PRP1 {address(rec.prp1)}, {count(rec.prps, 'PRP entry', 'PRP entries')} in all."


def _chain(rec: VirtqueueAdd) -> str:
    where = "in a table of its own, behind one" if rec.indirect else "in the ring"
    found = count(rec.entries, "descriptor")
    return f"{capital(found)} for request {rec.rq}, {human_bytes(rec.len)}, stand {where}: slot {rec.head}."


def _used(rec: VirtblkDone) -> str:
    how = "success" if not rec.status else f"status {rec.status}"
    return f"The device has used slot {rec.head}, and wrote {count(rec.len, 'byte')}: {how}."


def _ahci(rec: AtaQcIssue) -> str:
    table = count(rec.entries, "entry", "entries")
    return f"Slot {rec.tag} of AHCI holds request {rec.rq}: {human_bytes(rec.len)}, {table} in its table."


def _ahci_done(rec: AtaQcCompleteDone) -> str:
    how = "success" if rec.status == _ATA_OK and not rec.error else f"status {rec.status:#x}, error {rec.error:#x}"
    return f"Slot {rec.tag} of AHCI is over: {how}."


def _pmem(rec: PmemSubmitBio) -> str:
    way = "into persistent memory" if rec.write else "out of persistent memory"
    return f"A CPU copies {human_bytes(rec.len)} of request {rec.rq} {way}: no device, no DMA."


def _dma(rec: DeviceDma) -> str:
    way = "out of memory into the device" if rec.write else "from the device into memory"
    return f"{human_bytes(rec.len)} of request {rec.rq} have moved {way}."


def _cqe(rec: NvmeCompleteRq) -> str:
    return f"The completion of command {rec.cid} is seen: {f'status {rec.status:#x}' if rec.status else 'success'}."


def _loop(rec: LoRwAio) -> str:
    return f"The loop driver hands {human_bytes(rec.len)} of request {rec.rq} to its file at byte {rec.pos:,}."


def _late(rec: BlkMqRqTimedOut) -> str:
    return f"Request {rec.rq} has been with its driver for too long: {rec.action or 'nothing is done about it'}."


def _fault(rec: Fault) -> str:
    return f"Something breaks ({rec.kind}): {rec.text.rstrip('.')}."


TELL_DEV: dict[type, tuple[str, str | Callable[[Any], str], Callable[[Any], str]]] = {
    DmaMap: ("DMA map", lambda rec: _MAPS.get(rec.how, ""), _map),
    SwiotlbBounced: ("DMA map", "swiotlb_tbl_map_single", _bounce),
    DmaUnmap: ("DMA unmap", "dma_unmap_phys", _unmap),
    IotlbFlush: ("DMA unmap", "iova_domain_flush", _flush),
    IotlbFill: ("IOMMU", "", _fill),
    IoPageFault: ("IOMMU", "report_iommu_fault", _page_fault),
    NvmeSetupCmd: ("driver", "nvme_setup_cmd", _setup),
    VirtqueueAdd: ("driver", "virtqueue_add_sgs", _chain),
    AtaQcIssue: ("driver", "ahci_qc_issue", _ahci),
    PmemSubmitBio: ("driver", "pmem_submit_bio", _pmem),
    LoRwAio: ("driver", "lo_rw_aio", _loop),
    DeviceStart: ("device", "", lambda rec: f"The device begins request {rec.rq} on its channel {rec.unit}."),
    DeviceDma: ("device", "", _dma),
    NvmeCompleteRq: ("driver", "nvme_complete_rq", _cqe),
    VirtblkDone: ("driver", "virtblk_done", _used),
    AtaQcCompleteDone: ("driver", "ata_qc_complete", _ahci_done),
    BlkMqRqTimedOut: ("block", "blk_mq_rq_timed_out", _late),
    Fault: ("fault", "", _fault),
}
"""For each of these record types: the layer, the kernel's function, and the sentence."""
