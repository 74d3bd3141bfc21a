"""Commands of an NVMe drive, and the device addresses of their memory, as tracepoints and the drive itself told."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from labkit.scatter.payload import Range, Ranges, cut, join, run_length
from labkit.trace.events import DmaMap, DmaUnmap, NvmeCompleteRq, NvmeSetupCmd, SwiotlbBounced
from labkit.units import PAGE_SIZE, SECTOR_SHIFT
from labkit.witness.replay.blocks import Blocks, LiveRq
from labkit.witness.replay.seen import Seen
from labkit.witness.replay.tale import Tale

UNMAPS = "since its request has ended"
_LARGEST = 1 << 32
"""Bytes of one mapping at most: a request is never as large."""
_MOST = 512
"""Bytes of a list that a record keeps, as the driver's own records do."""


@dataclass(slots=True)
class _Mapped:
    """A command on its way: how its memory was mapped, and which device addresses it has."""

    rq: LiveRq
    row: dict[str, Any]
    dma: list[Range] = field(default_factory=list)
    phys: list[Range] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    ioptes: int = 0
    bounced: int = 0
    at: int = -1
    told: bool = False
    unmapped: int = -1
    unmaps: int = 0


class Bus:
    """The commands of one drive while they live."""

    def __init__(self, tale: Tale) -> None:
        """Know what the drive got."""
        self._tale, self._capture = tale, tale.capture
        self._rows = list(tale.capture.nvme or ())
        self._now: dict[int, _Mapped] = {}
        self._live: list[_Mapped] = []
        self._bounce: tuple[int, int, int] | None = None
        self.blocks: Blocks | None = None

    def take(self, row: Seen) -> bool:
        """Tell of `row` if it is a drive's, or of device addresses; return whether it is."""
        mine = self._now.get(row.pid)
        match row.name:
            case "nvme_setup_cmd":
                done = self._setup(row)
            case "nvme_complete_rq":
                done = self._complete(row)
            case "swiotlb_bounced":
                done = self._bounced(row)
            case name if name.startswith("dma_map_") or name == "iommu_map":
                done = mine is not None and self._map(mine, row)
            case name if name.startswith("dma_unmap_") or name == "iommu_unmap":
                done = self._unmap(row)
            case "block_rq_issue":
                self._issue(row)
                return False
            case _:
                return False
        if not done:
            self._tale.skip(row)
        return True

    def ended(self, rq: LiveRq, t: int) -> None:
        """Tell that the memory of a request is unmapped, before its end at `t` ns."""
        mine = next((one for one in self._live if one.rq is rq), None)
        if mine is None:
            return
        self._live.remove(mine)
        if not mine.told:
            return
        mode, seen = self._capture.behind_iommu, mine.unmapped >= 0
        rec = DmaUnmap(mine.unmapped if seen else t, rq.io, rq.rq, mine.unmaps * (mode == "strict"), mode == "lazy")
        if seen:
            self._tale.sum_up(rec)
        else:
            self._tale.infer(rec, UNMAPS)

    def _setup(self, row: Seen) -> bool:
        """Begin a command: which request it is for, its block and its length tell."""
        told = {name: int(value, 0) for name, value in re.findall(r"(\w+)=(\w+)", row.text("args"))}
        block = int(self._capture.limits.get("logical_block_size", 512)) >> SECTOR_SHIFT
        slba, length, cid = told.get("slba", -1), (told.get("len", -1) + 1) * block, row.number("cmdid")
        rq = self.blocks.find(slba * block, length, issued=False) if self.blocks else None
        if rq is None:
            return False
        got = next((one for one in self._rows if one.get("cid") == cid and one.get("slba") == slba), {})
        if got:
            self._rows.remove(got)
        mine = _Mapped(rq, got | {"cid": cid})
        self._now[row.pid] = mine
        self._live.append(mine)
        self._tale.tell(_command(row.t, mine, slba))
        return True

    def _map(self, mine: _Mapped, row: Seen) -> bool:
        """Note one mapping of the memory of a command."""
        mine.calls[row.name] += 1
        mine.at = row.t
        self._tale.fold(row)
        if row.name == "iommu_map":
            mine.ioptes += row.number("size") // PAGE_SIZE
            mine.phys.append((row.number("paddr"), row.number("size")))
        elif row.name in {"dma_map_phys", "dma_map_page"}:
            phys, dma, n = row.number("phys_addr"), row.number("dma_addr"), int(row.text("size"))
            if not 0 <= n <= _LARGEST:
                raise ValueError(f"of {n} bytes")
            mine.dma.append((dma, n))
            if self._bounce and self._bounce[1] == phys:
                self._tale.tell(SwiotlbBounced(self._bounce[0], 0, phys, dma, n))
                mine.bounced += n
                self._bounce = None
        return True

    def _bounced(self, row: Seen) -> bool:
        """Keep what is bounced until the mapping tells where to."""
        told = dict(re.findall(r"(\w+)=(\w+)", row.text("raw")))
        self._bounce = (row.t, int(told["dev_addr"], 16), int(told["size"])) if "dev_addr" in told else None
        return self._bounce is not None

    def _issue(self, row: Seen) -> None:
        """Tell how the memory of a command was mapped, now that all of it is."""
        rq = self.blocks.find(row.number("sector"), row.number("nr_sector"), issued=False) if self.blocks else None
        mine = next((one for one in self._live if one.rq is rq and not one.told), None)
        if mine is None or not (mine.row.get("addrs") or mine.dma):
            return
        mine.told = True
        mine.dma = [(int(addr), int(n)) for addr, n in mine.row.get("addrs") or mine.dma]
        phys = _memory(mine.rq)
        maps = sum(times for name, times in mine.calls.items() if name != "iommu_map") or 1
        self._tale.sum_up(
            DmaMap(row.t if mine.at < 0 else mine.at, mine.rq.io, mine.rq.rq, run_length(mine.dma), phys, maps, 0, 0, 0,
                   self._how(mine), mine.ioptes, mine.bounced)
        )  # fmt: skip

    def _how(self, mine: _Mapped) -> str:
        """Return the way that was taken: the calls say so, and where there were none, the memory (P2P-2)."""
        if mine.calls["dma_map_sg"]:
            return "sg"
        if mine.calls["dma_map_phys"] or mine.calls["dma_map_page"]:
            return "phys"
        return "iova" if mine.calls["iommu_map"] else "bus" if self._capture.mode == "p2p" else "phys"

    def _unmap(self, row: Seen) -> bool:
        by_phys, addr = _first(row)
        page = addr // PAGE_SIZE
        for one in self._live:
            if any(
                at // PAGE_SIZE <= page <= (at + n - 1) // PAGE_SIZE for at, n in (one.phys if by_phys else one.dma)
            ):
                one.unmapped, one.unmaps = row.t, one.unmaps + (row.name == "iommu_unmap")
                self._tale.fold(row)
                return True
        return False

    def _complete(self, row: Seen) -> bool:
        cid = row.number("cmdid")
        mine = next((one for one in self._live if one.row["cid"] == cid), None)
        if mine is not None:
            self._tale.tell(NvmeCompleteRq(row.t, mine.rq.io, mine.rq.rq, cid, row.number("status")))
        return mine is not None


def _first(row: Seen) -> tuple[bool, int]:
    """Return whether an unmap tells of physical addresses, and the first address that it tells of."""
    if row.name == "iommu_unmap":
        return False, row.number("iova")
    if "phys_addrs" in row.fields:
        return True, int(row.text("phys_addrs").strip("{}").split(",")[0], 16)
    return False, row.number("dma_addr")


def _memory(rq: LiveRq) -> Ranges:
    """Return the physical ranges of a request, joined where they touch; nothing where one of its bios has none."""
    found: list[Range] = []
    for bio, sector, nr_sector in sorted(rq.parts, key=lambda part: part[1]):
        found += cut(bio.vecs, sector - bio.sector << SECTOR_SHIFT, nr_sector << SECTOR_SHIFT)
    return join([run_length(found)])


def _command(t: int, mine: _Mapped, slba: int) -> NvmeSetupCmd:
    """Return a command as the drive got it; where it never came there, without its bytes."""
    row, rq = mine.row, mine.rq
    addrs = [(int(addr), int(n)) for addr, n in row.get("addrs", ())]
    inline = row.get("encoding") == "sgl" and row.get("sgl_type") == 0
    encoding = "sgl1" if inline else str(row.get("encoding", "prp"))
    prps, lists = _list(row, addrs, encoding)
    one, two = ((int(text, 16) for text in row["dptr"]) if encoding != "prp" and "dptr" in row
                else (int(row.get("prp1", 0)), int(row.get("prp2", 0))))  # fmt: skip
    return NvmeSetupCmd(
        t, rq.io, rq.rq, row["cid"], slba, rq.nr_sector << SECTOR_SHIFT, one, two, prps, len(lists),
        bytes.fromhex(row.get("sqe", "")).hex(), encoding, _spelled(row, encoding, lists),
    )  # fmt: skip


def _list(row: dict[str, Any], addrs: list[Range], encoding: str) -> tuple[int, bytes]:
    """Return how many PRPs or descriptors a command has, and what its one list in memory holds, as the drive read it.

    Of a chain of lists nobody noted where each one ends: their bytes are left out.
    """
    if encoding != "prp":
        told = b"".join(addr.to_bytes(8, "little") + n.to_bytes(8, "little") for addr, n in addrs)
        return max(len(addrs), 1), told if encoding == "sgl" else b""
    pages = [page for addr, n in addrs for page in _pages(addr, n)]
    lists = row.get("prp_lists") or []
    whole = len(lists) == 1 and lists[0].get("entries") == len(pages) - 1
    return len(pages), b"".join(page.to_bytes(8, "little") for page in pages[1:]) if whole else b""


def _pages(addr: int, nbytes: int) -> list[int]:
    """Return where each page of a device range begins, the first one at `addr` itself."""
    return [addr, *range((addr // PAGE_SIZE + 1) * PAGE_SIZE, addr + nbytes, PAGE_SIZE)]


def _spelled(row: dict[str, Any], encoding: str, held: bytes) -> str:
    """Return the list of a command as records spell it: its address, and its first bytes in hex."""
    if not held:
        return ""
    at = row["prp_lists"][0]["at"] if encoding == "prp" else row["sgl"][0][0]
    return f"{int(at):#x}:{held[:_MOST].hex()}"
