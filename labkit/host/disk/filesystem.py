"""A device becomes a filesystem, and in it one file that lies in pieces, with holes: all by a seed."""

import ctypes
import errno
import mmap
import os
import random
import shutil
import subprocess
from pathlib import Path

from labkit.errors import BadInput, NotAllowed, SyscallError
from labkit.host.refusal import speaking

MKFS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
}
"""How each filesystem is made: by nothing that writes later on its own, and with no discard."""
_PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}
_SBIN = "/usr/sbin:/sbin"
_SECONDS = 120
_BLOCK, _MOST = 4096, 1 << 20
_PUNCH_HOLE, _COLLAPSE_RANGE, _ZERO_RANGE = 1 | 2, 8, 16
"""Modes of fallocate (uapi/linux/falloc.h); a hole keeps the size."""
_MODES = (0,) * 14 + (_PUNCH_HOLE, _ZERO_RANGE)
"""What becomes of a piece: one of eight is a hole, or unwritten."""


def program(fs: str) -> str | None:
    """Return the path of what makes the filesystem `fs`, None where it is not installed."""
    return shutil.which(MKFS[fs][0], path=f"{os.environ.get('PATH', '')}:{_SBIN}")


def mkfs(fs: str, device: str, fd: int) -> None:
    """Make the filesystem `fs` on `device`, a path, of which `fd` is open.

    What makes it holds `fd` as well: should this process be killed meanwhile, nobody is given the number of the device
    before that has ended, and it writes to no device of another. Raises BadInput for one that is none of MKFS,
    NotAllowed, SyscallError.
    """
    if fs not in MKFS:
        raise BadInput("mkfs", f"fs={fs}", f"is none of raw, {', '.join(MKFS)}", errno.EINVAL)
    name, *options = MKFS[fs]
    if (path := program(fs)) is None:
        raise NotAllowed("mkfs", name, f"is not installed: apt-get install {_PACKAGES[fs]}", errno.ENOENT)
    try:
        with speaking("mkfs", f"{name} {device}"):
            done = subprocess.run(  # noqa: S603 - a program of this machine, on a device of labkit's own
                [path, *options, device], check=False, capture_output=True, text=True, timeout=_SECONDS, pass_fds=(fd,)
            )
    except subprocess.TimeoutExpired as late:
        raise SyscallError("mkfs", f"{name} {device}", f"takes more than {_SECONDS} s", errno.ETIMEDOUT) from late
    if done.returncode:
        said = " ".join(done.stderr.split())[:300]
        raise SyscallError("mkfs", f"{name} {device}", f"fails: {said or f'exit code {done.returncode}'}", errno.EINVAL)


def make_file(root: Path, file_bytes: int, seed: int, *, fragments: bool) -> int:
    """Write the file `labkit` of `file_bytes` below `root`; return an fd of it, open with O_DIRECT.

    With `fragments` it is written longer, and what lies between its pieces of 4 KiB to 1 MiB is cut out: so the pieces
    stay where they are, however the filesystem allocates. Some become holes, some unwritten. Raises OSError, ENOSPC
    where the device is full, EOPNOTSUPP where its filesystem cuts nothing out.
    """
    pieces = _pieces(file_bytes, random.Random(seed)) if fragments else [(file_bytes, 0, 0)]  # noqa: S311 - a pattern
    fd = os.open(root / "labkit", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC, 0o600)
    try:
        _fill(fd, sum(kept + cut for kept, cut, _ in pieces), seed)
        at = 0
        for kept, cut, mode in pieces:
            if cut:
                _fallocate(fd, _COLLAPSE_RANGE, at, cut)
            if mode:
                _fallocate(fd, mode, at, kept)
            at += kept
        os.ftruncate(fd, file_bytes)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _pieces(file_bytes: int, dice: random.Random) -> list[tuple[int, int, int]]:
    """Return pieces that make up `file_bytes`, in whole blocks: bytes kept, bytes cut out before them, and a mode."""
    pieces, left = list[tuple[int, int, int]](), -(-file_bytes // _BLOCK) * _BLOCK
    while left:
        kept = min(left, _BLOCK << dice.randrange((_MOST // _BLOCK).bit_length()))
        pieces.append((kept, _BLOCK * dice.randint(1, 16), dice.choice(_MODES)))
        left -= kept
    return pieces


def _fill(fd: int, nbytes: int, seed: int) -> None:
    """Write the first `nbytes`, in whole blocks, by direct IO, which allocates them at once. Raises OSError."""
    nbytes = -(-nbytes // _BLOCK) * _BLOCK
    with mmap.mmap(-1, _MOST) as page, memoryview(page) as view:
        view[:] = random.Random(seed).randbytes(_MOST)  # noqa: S311 - a pattern
        at = 0
        while at < nbytes:
            with view[: nbytes - at] as part:
                at += os.pwrite(fd, part, at)


def _fallocate(fd: int, mode: int, at: int, nbytes: int) -> None:
    """Call fallocate(2), of which Python knows no modes. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(ctypes.c_int(fd), ctypes.c_int(mode), ctypes.c_long(at), ctypes.c_long(nbytes)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
