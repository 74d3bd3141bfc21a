"""One record type for each tracepoint.

A record that the kernel traces has the kernel's name for it (`SysEnter` is sys_enter, `BlockRqIssue` block_rq_issue).
Where the kernel has no tracepoint, the record has the name of the function that does the work, and says so. Every
record begins with `t` (ns of machine time) and `io` (which IO it belongs to, from 1; 0: none). Ranges are (addr, len)
in bytes.
"""

from typing import NamedTuple

Ranges = tuple[tuple[int, int], ...]


class Mmap(NamedTuple):
    """A mapping appears in the address space. The name is the syscall's."""

    t: int
    io: int
    addr: int
    len: int
    prot: str
    name: str


class Munmap(NamedTuple):
    """A mapping goes, and its translations with it. The name is the syscall's."""

    t: int
    io: int
    addr: int
    len: int


class MmPageAlloc(NamedTuple):
    """Folios of 2**`order` pages are allocated and mapped from `addr` on, in the order of `ranges` (physical).

    The kernel traces each folio; one record tells of all that one fault, or one populate, brought. `refs`: references
    that the mapping holds on each folio (one for each entry that maps it).
    """

    t: int
    io: int
    addr: int
    order: int
    refs: int
    ranges: Ranges


class MmPageFree(NamedTuple):
    """Folios of 2**`order` pages go back to the buddy allocator."""

    t: int
    io: int
    order: int
    ranges: Ranges


class SysEnter(NamedTuple):
    """A system call begins: `nbytes` bytes between `buf` (user address) and `pos` (bytes) of file `fd`."""

    t: int
    io: int
    name: str
    fd: int
    buf: int
    nbytes: int
    pos: int


class SysExit(NamedTuple):
    """A system call ends: bytes moved, or a negative errno."""

    t: int
    io: int
    name: str
    ret: int


class GupPin(NamedTuple):
    """User memory from `addr` on is translated and pinned: get_user_phyrs (proposed), or pin_user_pages (upstream).

    `ranges` are physical, in the order of the user's bytes. `policy` is who counts: 'range' keeps one ledger entry,
    'page' adds to the count of each page. `ptes`: entries walked; `atomics`: locked operations; `struct_pages`:
    struct pages read or written; `descriptor_bytes`: memory that describes the result. No tracepoint upstream.
    """

    t: int
    io: int
    token: int
    policy: str
    addr: int
    ranges: Ranges
    ptes: int
    atomics: int
    struct_pages: int
    descriptor_bytes: int


class GupUnpin(NamedTuple):
    """What `token` pinned is let go of as a whole: put_user_phyrs (proposed), or unpin_user_pages (upstream)."""

    t: int
    io: int
    token: int
    atomics: int
    struct_pages: int


class BlkdevDirectIO(NamedTuple):
    """The raw block device file takes the IO: `path` is simple or multi (DIO-4). No tracepoint; the function's name."""

    t: int
    io: int
    pos: int
    nbytes: int
    path: str


class BlockBioQueue(NamedTuple):
    """A bio enters the block layer: `vecs` vectors of payload, its bytes starting `start` bytes into the IO."""

    t: int
    io: int
    bio: int
    sector: int
    nr_sector: int
    vecs: int
    start: int


class BlockSplit(NamedTuple):
    """A bio is too much for the queue: its front ends at `new_sector`."""

    t: int
    io: int
    bio: int
    sector: int
    new_sector: int


class BlockGetrq(NamedTuple):
    """A request and a tag are found for the bio, or for the front of it."""

    t: int
    io: int
    bio: int
    rq: int
    tag: int
    sector: int
    nr_sector: int
    segments: int


class DmaMap(NamedTuple):
    """The memory of a request becomes addresses for its device: `phys` in, `dma` out.

    `maps`: mapping operations; `conversions`: elements copied from one scatter-gather type into another on the way;
    `struct_pages`: struct pages read to find the addresses; `descriptor_bytes`: what is kept for the unmap.
    """

    t: int
    io: int
    rq: int
    dma: Ranges
    phys: Ranges
    maps: int
    conversions: int
    struct_pages: int
    descriptor_bytes: int


class DmaUnmap(NamedTuple):
    """The device addresses of a request are given back; `stale` ones stay in the IOTLB until a flush (lazy)."""

    t: int
    io: int
    rq: int
    syncs: int
    stale: bool


class IotlbFlush(NamedTuple):
    """The flush queue is emptied: every stale device address is dead now (IOVA-7). The function: iova_domain_flush."""

    t: int
    io: int
    syncs: int


class BlockRqIssue(NamedTuple):
    """A request goes to the driver."""

    t: int
    io: int
    rq: int
    tag: int
    sector: int
    nr_sector: int


class NvmeSetupCmd(NamedTuple):
    """The NVMe driver has written a submission queue entry: `sqe` is its 64 bytes in hex, `prps` counts its PRPs."""

    t: int
    io: int
    rq: int
    cid: int
    slba: int
    length: int
    prp1: int
    prp2: int
    prps: int
    descriptor_bytes: int
    sqe: str


class LoRwAio(NamedTuple):
    """The loop driver hands the request's memory to a file at `pos` bytes. No tracepoint; the function's name."""

    t: int
    io: int
    rq: int
    pos: int
    len: int


class DeviceStart(NamedTuple):
    """The device begins to serve a command on its channel `unit`. Ours: a device has no tracepoints."""

    t: int
    io: int
    rq: int
    unit: int


class DeviceDma(NamedTuple):
    """The device has moved `len` bytes through bus addresses; `write`: out of memory, into the device. Ours."""

    t: int
    io: int
    rq: int
    write: bool
    len: int


class NvmeCompleteRq(NamedTuple):
    """A completion queue entry is seen: `status` is the NVMe status field, 0 for success."""

    t: int
    io: int
    rq: int
    cid: int
    status: int


class BlockRqComplete(NamedTuple):
    """A request ends and its tag is free: `error` is 0 or a negative errno."""

    t: int
    io: int
    rq: int
    tag: int
    sector: int
    nr_sector: int
    error: int


Record = (
    Mmap | Munmap | MmPageAlloc | MmPageFree | SysEnter | SysExit | GupPin | GupUnpin | BlkdevDirectIO
    | BlockBioQueue | BlockSplit | BlockGetrq | DmaMap | DmaUnmap | IotlbFlush | BlockRqIssue | NvmeSetupCmd
    | LoRwAio | DeviceStart | DeviceDma | NvmeCompleteRq | BlockRqComplete
)  # fmt: skip

RECORDS: dict[str, type[Record]] = {cls.__name__: cls for cls in Record.__args__}
"""Every record type by its name."""
