"""Filesystems that nobody else sees: mounted nowhere, reached through a descriptor, and gone with it.

fsopen, fsconfig and fsmount (Linux 5.2) make a mount that is in no mount table; it goes at the last close, SIGKILL too.
"""

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from labkit.errors import LabkitError, NotAllowed, SyscallError
from labkit.host.refusal import refused

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1
_SET_STRING, _CREATE = 1, 6
_NOSUID_NODEV_NOEXEC = 0x2 | 0x4 | 0x8
_MESSAGE_BYTES = 512
_REMEDIES = dict.fromkeys(
    (errno.EPERM, errno.EACCES), "needs CAP_SYS_ADMIN, and a kernel that is not locked down: run as root"
) | dict.fromkeys(
    (errno.ENODEV, errno.ENOSYS), "is nothing that this kernel mounts: run one of Linux 5.2 or newer that has it"
)
_tracefs: list["Mount"] = []
"""The mount of tracefs that this process made, if it had to."""


class Mount:
    """A detached mount; `path` leads into it, for this process alone. A context manager."""

    def __init__(self, fd: int) -> None:
        """Hold the descriptor `fd`."""
        self._fd = fd

    @property
    def path(self) -> Path:
        """Its root directory."""
        return Path(f"/proc/self/fd/{self._fd}")

    def close(self) -> None:
        """Let it go; a second call does nothing. Files that are open in it keep it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def mount(fs: str, source: str = "") -> Mount:
    """Mount `source`, such as /dev/loop3, of type `fs`. Raises NotAllowed without root, SyscallError."""
    opened = -1
    try:
        opened = _call(_FSOPEN, fs.encode(), _CLOEXEC)
        if source:
            _call(_FSCONFIG, opened, _SET_STRING, b"source", source.encode(), 0)
        _call(_FSCONFIG, opened, _CREATE, None, None, 0)
        return Mount(_call(_FSMOUNT, opened, _CLOEXEC, _NOSUID_NODEV_NOEXEC))
    except OSError as no:
        raise _refusal(f"{fs} of {source}" if source else fs, _message(opened), no) from no
    finally:
        if opened >= 0:
            os.close(opened)


def tracefs() -> Path:
    """Return the root of tracefs: where it is mounted, else a detached mount that this process keeps.

    Raises NotAllowed where this user or machine has none.
    """
    if (root := mounted("tracefs")) is not None and os.access(root / "instances", os.W_OK | os.X_OK):
        return root
    if not _tracefs:
        _tracefs.append(mount("tracefs"))
    return _tracefs[0].path


def mounted(fs: str) -> Path | None:
    """Return where a filesystem of type `fs` is mounted as a whole, None where it is not."""
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split(" ")[0] == fs and fields.split(" ")[3] == "/":
            return Path(fields.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape"))
    return None


def _call(number: int, *args: bytes | int | None) -> int:
    """Return what the syscall `number` returns. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in args))
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(done)


def _message(opened: int) -> str:
    """Return what the filesystem itself says about the failure: the first line in its context, '' if nothing."""
    with contextlib.suppress(OSError):
        return os.read(opened, _MESSAGE_BYTES).decode("utf-8", "replace")[2:].strip() if opened >= 0 else ""
    return ""


def _refusal(what: str, said: str, no: OSError) -> LabkitError:
    """Return `no` as a sentence, in the filesystem's own words where it `said` any."""
    bad = refused("mount", what, no, _REMEDIES)
    return bad if isinstance(bad, NotAllowed) or not said else SyscallError("mount", what, f"fails: {said}", bad.errno)
