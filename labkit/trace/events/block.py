"""Bios, requests and their mapping for a device."""

from typing import NamedTuple

from labkit.scatter.payload import Ranges


class BlockBioQueue(NamedTuple):
    """A bio enters the block layer: `vecs` vectors of payload, its bytes starting `start` bytes into the IO.

    `start` is -1 where they are not the user's: zeros beside the IO, or pages of a file.
    """

    t: int
    io: int
    bio: int
    sector: int
    nr_sector: int
    vecs: int
    start: int
    rwbs: str = ""


class BlockBioRemap(NamedTuple):
    """A bio goes on to another device: `new_sector` there is what `sector` was here (a partition, a stripe)."""

    t: int
    io: int
    bio: int
    sector: int
    nr_sector: int
    new_sector: int
    dev: str


class BlockBioComplete(NamedTuple):
    """A bio, or the rest of one, dies before it is a request: `error` is a negative errno."""

    t: int
    io: int
    bio: int
    sector: int
    nr_sector: int
    error: int


class BlockPlug(NamedTuple):
    """The first request is kept back in a plug."""

    t: int
    io: int


class BlockUnplug(NamedTuple):
    """The `nr_rq` requests of a plug go on."""

    t: int
    io: int
    nr_rq: int


class BlockBioBackmerge(NamedTuple):
    """The bio, or a piece of it, joins request `rq` behind its end; the request has `segments` more now."""

    t: int
    io: int
    bio: int
    rq: int
    sector: int
    nr_sector: int
    segments: int


class BlockBioFrontmerge(NamedTuple):
    """The bio, or a piece of it, joins request `rq` before its start; the request has `segments` more now."""

    t: int
    io: int
    bio: int
    rq: int
    sector: int
    nr_sector: int
    segments: int


class BlockRqInsert(NamedTuple):
    """A request waits in the queue: for its scheduler, or because it could not go straight to the driver."""

    t: int
    io: int
    rq: int
    tag: int
    sector: int
    nr_sector: int


class BlockRqRequeue(NamedTuple):
    """The driver has no room for a request now, and will be asked again (BLK-1)."""

    t: int
    io: int
    rq: int
    tag: int
    sector: int
    nr_sector: int


class BlockRqMerge(NamedTuple):
    """Request `rq` takes its neighbour `other` in, whose tag is free now."""

    t: int
    io: int
    rq: int
    other: int
    tag: int
    sector: int
    nr_sector: int


class BlockSplit(NamedTuple):
    """A bio is too much for the queue: its front ends at `new_sector`, and `rule` says which limit it met there.

    `why` tells that in figures.
    """

    t: int
    io: int
    bio: int
    sector: int
    new_sector: int
    rule: str = ""
    why: str = ""


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
    `struct_pages`: struct pages read to find the addresses; `descriptor_bytes`: what is kept for the unmap; `how`: phys
    (range by range), iova (one range of device addresses), sg (a scatterlist), bus (a peer's own addresses) or
    premapped; `ioptes`: IOMMU page table entries written; `bounced`: bytes copied into bounce buffers.
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
    how: str = "phys"
    ioptes: int = 0
    bounced: int = 0


class DmaUnmap(NamedTuple):
    """The device addresses of a request are given back; `stale` ones stay in the IOTLB until a flush (lazy).

    `bounced`: bytes copied back out of bounce buffers (SWI-3).
    """

    t: int
    io: int
    rq: int
    syncs: int
    stale: bool
    bounced: int = 0


class SwiotlbBounced(NamedTuple):
    """`len` bytes at physical `phys` are bounced: the device is given `slot`, a physical address of the pool instead.

    No request is known where that happens (`io` 0, as in the kernel): it is the next one to be mapped.
    """

    t: int
    io: int
    phys: int
    slot: int
    len: int


class BlkMqRqTimedOut(NamedTuple):
    """A request was with its driver for too long: `action` is what the driver does about it. The function's name."""

    t: int
    io: int
    rq: int
    action: str


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


class BlockRqComplete(NamedTuple):
    """A request ends and its tag is free: `error` is 0 or a negative errno."""

    t: int
    io: int
    rq: int
    tag: int
    sector: int
    nr_sector: int
    error: int
