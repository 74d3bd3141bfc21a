"""Bios, requests and their mapping for a device."""

from typing import NamedTuple

from labkit.scatter.payload import Ranges


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


class BlockRqComplete(NamedTuple):
    """A request ends and its tag is free: `error` is 0 or a negative errno."""

    t: int
    io: int
    rq: int
    tag: int
    sector: int
    nr_sector: int
    error: int
