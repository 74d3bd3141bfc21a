"""Drivers and devices: commands, and bytes that move."""

from typing import NamedTuple


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
