"""The loop driver as Python calls: its ioctls (uapi/linux/loop.h) and its files in sysfs."""

import fcntl
import struct
from collections.abc import Iterator
from pathlib import Path

LOOP_CLR_FD = 0x4C01
LOOP_GET_STATUS64 = 0x4C05
LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_AUTOCLEAR = 4
LO_FLAGS_DIRECT_IO = 16
LO_NAME_SIZE = 64

LOOP_INFO64 = struct.Struct("=5Q4I64s64s32s2Q")
"""lo_device lo_inode lo_rdevice lo_offset lo_sizelimit, lo_number .. lo_flags, lo_file_name, .., lo_init."""
LOOP_CONFIG = struct.Struct(f"=2I{LOOP_INFO64.size}s64x")
"""fd, block_size, info, __reserved."""

SYS_BLOCK = Path("/sys/block")
QUEUE_LIMITS = (
    "logical_block_size",
    "physical_block_size",
    "max_sectors_kb",
    "max_hw_sectors_kb",
    "max_segments",
    "max_segment_size",
    "dma_alignment",
    "virt_boundary_mask",
    "chunk_sectors",
    "nr_requests",
)


def get_free(control: int) -> int:
    """Return the number of a loop device that nobody uses now; `control` is an fd of /dev/loop-control."""
    return fcntl.ioctl(control, LOOP_CTL_GET_FREE)


def configure(loop: int, backing: int, block_size: int, name: str) -> None:
    """Attach the file `backing` to `loop` (both fds), with direct IO, until the last close of the device.

    Since Linux 5.8 one call sets everything, so that no moment exists at which the device is attached without
    LO_FLAGS_AUTOCLEAR. Raises OSError EBUSY when the device has a file already.
    """
    label = name.encode()[: LO_NAME_SIZE - 1]
    flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO
    info = LOOP_INFO64.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, label, b"", b"", 0, 0)
    fcntl.ioctl(loop, LOOP_CONFIGURE, LOOP_CONFIG.pack(backing, block_size, info))


def clr_fd(loop: int) -> None:
    """Detach the file of `loop` (an fd); while somebody else has the device open, only mark it AUTOCLEAR."""
    fcntl.ioctl(loop, LOOP_CLR_FD)


def lo_inode(loop: int) -> int:
    """Return the inode number of the file behind `loop` (an fd)."""
    status = bytearray(LOOP_INFO64.size)
    fcntl.ioctl(loop, LOOP_GET_STATUS64, status)
    return int(LOOP_INFO64.unpack(status)[1])


def backing_file(number: int) -> str:
    """Return the path of the file behind /dev/loop`number` as sysfs has it, '' when there is none."""
    try:
        return (SYS_BLOCK / f"loop{number}/loop/backing_file").read_text().removesuffix("\n")
    except OSError:
        return ""


def attached() -> Iterator[tuple[int, str]]:
    """Yield number and backing file of every loop device that has one."""
    for entry in sorted(SYS_BLOCK.glob("loop*")):
        number = entry.name.removeprefix("loop")
        if number.isdecimal() and (backing := backing_file(int(number))):
            yield int(number), backing


def limits(number: int) -> dict[str, int]:
    """Return the queue limits of /dev/loop`number` by their sysfs names, and `dio`: 1 when the file is read directly.

    A name that this kernel does not have is absent. Raises OSError when the device is gone.
    """
    loop = SYS_BLOCK / f"loop{number}"
    found = {name: loop / "queue" / name for name in QUEUE_LIMITS} | {"dio": loop / "loop/dio"}
    (loop / "loop/dio").stat()
    return {name: int(path.read_text()) for name, path in found.items() if path.exists()}
