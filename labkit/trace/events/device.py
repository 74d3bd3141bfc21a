"""Drivers and devices: commands, and bytes that move."""

from typing import NamedTuple

from labkit.scatter.payload import Ranges


class NvmeSetupCmd(NamedTuple):
    """The NVMe driver has written a submission queue entry: `sqe` is its 64 bytes in hex.

    `prps` counts its PRPs, or the descriptors of its SGL; `encoding` is prp, sgl1 (one inline) or sgl (a list).
    `lists`: "address:bytes" of each PRP list or SGL in memory, spaces between; in hex, the first 512 bytes of each.
    """

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
    encoding: str = "prp"
    lists: str = ""


class VirtqueueAdd(NamedTuple):
    """virtio-blk has put a chain into its ring: `head` is its slot. The function: virtqueue_add_sgs; no tracepoint.

    `descs`: the descriptors, 16 bytes each, in hex: of the table if it is `indirect` (one slot), else of the ring.
    `header`: the 16 bytes that say what is to be done, in hex.
    """

    t: int
    io: int
    rq: int
    head: int
    sector: int
    len: int
    indirect: bool
    entries: int
    descriptor_bytes: int
    header: str
    descs: str


class VirtblkDone(NamedTuple):
    """virtio-blk sees a used element: `status` is the byte that the device wrote, 0 for success, `len` bytes written.

    The function; no tracepoint.
    """

    t: int
    io: int
    rq: int
    head: int
    status: int
    len: int


class AtaQcIssue(NamedTuple):
    """AHCI has built a command in slot `tag`: `fis` are its 20 bytes, `prdt` the entries of 16 bytes each, in hex."""

    t: int
    io: int
    rq: int
    tag: int
    sector: int
    len: int
    entries: int
    descriptor_bytes: int
    fis: str
    prdt: str


class AtaQcCompleteDone(NamedTuple):
    """A slot of AHCI is over: `status` and `error` are the registers of the drive, 0x50 and 0 for success."""

    t: int
    io: int
    rq: int
    tag: int
    status: int
    error: int


class PmemSubmitBio(NamedTuple):
    """A CPU copies `len` bytes between a request's memory and persistent memory. The function; no tracepoint."""

    t: int
    io: int
    rq: int
    write: bool
    len: int


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


class IotlbFill(NamedTuple):
    """What an IOTLB did for one transfer: device ranges that it learned (`filled`) and forgot to make room (`evicted`).

    `hits` and `misses` are translations since the record before. Ours: hardware tells nobody.
    """

    t: int
    io: int
    rq: int
    filled: Ranges
    evicted: Ranges
    hits: int
    misses: int


class IoPageFault(NamedTuple):
    """A device put `addr` on the bus, and nothing answers there, or not for a `write` to memory."""

    t: int
    io: int
    rq: int
    addr: int
    write: bool


class Fault(NamedTuple):
    """Something breaks, as it was asked to: `kind` is one of machine/faults. Ours."""

    t: int
    io: int
    kind: str
    text: str
