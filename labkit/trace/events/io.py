"""One IO: the call, the pin, the file, and what gets in its way."""

from typing import NamedTuple

from labkit.scatter.payload import Ranges


class SysEnter(NamedTuple):
    """A system call begins: `nbytes` bytes between `buf` (user address) and `pos` (bytes) of file `fd`.

    `iov`: the (user address, length) of each piece, where they are several.
    """

    t: int
    io: int
    name: str
    fd: int
    buf: int
    nbytes: int
    pos: int
    iov: Ranges = ()


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
    struct pages read or written; `descriptor_bytes`: memory that describes the result; `cache_lines`: lines that the
    count itself is kept in; `faults`: folios that had to be brought. No tracepoint upstream.
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
    cache_lines: int = 0
    mm: int = 0
    faults: int = 0


class GupUnpin(NamedTuple):
    """What `token` pinned is let go of as a whole: put_user_phyrs (proposed), or unpin_user_pages (upstream).

    `ns`: how long it takes, which the last one makes its caller wait.
    """

    t: int
    io: int
    token: int
    atomics: int
    struct_pages: int
    ns: int = 0


class BlkdevDirectIO(NamedTuple):
    """The raw block device file takes the IO: `path` is simple or multi (DIO-4). No tracepoint; the function's name."""

    t: int
    io: int
    pos: int
    nbytes: int
    path: str


class IomapDioRwBegin(NamedTuple):
    """A file takes the IO: `nbytes` bytes at `pos` of inode `ino`, which is `isize` bytes long."""

    t: int
    io: int
    ino: int
    isize: int
    pos: int
    nbytes: int


class IomapIterDstmap(NamedTuple):
    """Bytes [offset, offset + length) of inode `ino` lie at byte `addr` of the device, -1 for nowhere.

    `type` is hole, delalloc, mapped, unwritten or inline; `flags` are words such as new, shared, dirty.
    """

    t: int
    io: int
    ino: int
    addr: int
    offset: int
    length: int
    type: str
    flags: str = ""


class IomapDioComplete(NamedTuple):
    """The IO on inode `ino` is over: `error` is 0 or a negative errno, `ret` what the caller gets."""

    t: int
    io: int
    ino: int
    pos: int
    error: int
    ret: int


class IovIterZero(NamedTuple):
    """Zeros are written over `nbytes` of user memory, at byte `start` of the IO: a hole. No tracepoint."""

    t: int
    io: int
    start: int
    nbytes: int


class IoUringSubmitReq(NamedTuple):
    """An entry of the submission queue becomes IO `io`: `opcode`, and the index of a registered buffer, or -1.

    `nbytes` bytes between `buf` (user address) and `pos` (bytes) of the file; `iov` as in SysEnter.
    """

    t: int
    io: int
    opcode: str
    user_data: int
    buf_index: int = -1
    buf: int = 0
    nbytes: int = 0
    pos: int = 0
    iov: Ranges = ()


class IoUringQueueAsyncWork(NamedTuple):
    """The IO would have had to wait; a worker thread (io-wq) does it again from the start (R18)."""

    t: int
    io: int
    user_data: int


class IoUringComplete(NamedTuple):
    """An entry of the completion queue: bytes moved, or a negative errno."""

    t: int
    io: int
    user_data: int
    res: int


class Hazard(NamedTuple):
    """Somebody gets in the way of an IO, as the scenario asked: `name`, and what was done or refused. Ours."""

    t: int
    io: int
    name: str
    text: str


class Violation(NamedTuple):
    """The machine broke the invariant `name` at record number `at`; `text` says how. Ours.

    Where bytes are wrong, `addr` (physical) is the first of them, and `expected` and `found` are hex.
    """

    t: int
    io: int
    name: str
    at: int
    text: str
    addr: int = 0
    expected: str = ""
    found: str = ""
