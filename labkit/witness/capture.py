"""A capture: one real IO, or a few of one submission, as a kernel was seen to do it (format labkit-capture-1)."""

import errno
import gzip
import json
import re
import zlib
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from labkit.errors import BadInput
from labkit.hardware.pcie import Route
from labkit.kernel.block.limits import QueueLimits, number
from labkit.kernel.block.sched import SCHEDULERS
from labkit.kernel.syscall.table import UIO_MAXIOV
from labkit.kernel.version import Rules, rules_of
from labkit.scatter.payload import Range
from labkit.witness.captured_layout import CapturedLayout, Part
from labkit.witness.layout import Layout

FORMATS = ("labkit-capture-1", "labkit-capture-1+nvme")
MODES = ("none", "strict", "lazy", "swiotlb", "p2p")
"""How memory got its device addresses in a capture of NVMe."""
SGL_THRESHOLD = 32 << 10
"""nvme.sgl_threshold where nobody asks for another, in bytes (NVME-4)."""
_Bytes = Annotated[int, Field(ge=0, lt=1 << 63)]
_Registered = Annotated[int, Field(ge=1, le=1 << 30)]
"""Bytes of a registered buffer: 1 GiB at most, as older kernels have it."""
_EXACT = ("max_hw_sectors", "max_sectors")
_DEEPEST = 1 << 16
"""Requests of a queue at most: more than any kernel lets a driver have."""
_MOST = 64 << 20
"""Bytes of a capture at most, unpacked."""


class CapturedIo(Part):
    """One IO: `op` r or w at byte `pos`, with (user address, bytes) for each piece."""

    api: Annotated[str, Field(pattern="^(io_uring_(read|write)(v|_fixed)?|p?(read|write)(v2?|64)?(_nowait)?)$")]
    op: Literal["r", "w"]
    pos: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
    iov: Annotated[list[tuple[_Bytes, _Bytes]], Field(max_length=UIO_MAXIOV)]
    buf_index: Annotated[int, Field(ge=0)] | None = None
    rwf: str | None = None

    @property
    def uring(self) -> bool:
        """Whether it is an entry of a ring."""
        return self.api.startswith("io_uring")

    def wrong(self, regions: int) -> str:
        """Return what does not go together in it, where `regions` buffers are registered; "" if all does."""
        fixed = self.buf_index is not None
        if ("write" in self.api) != (self.op == "w"):
            return f"is {self.api} with op={self.op!r}"
        if (fixed and not self.uring) or (self.api.endswith("_fixed") and not fixed):
            return f"is {self.api} with buf_index={self.buf_index}"
        if self.buf_index is not None and self.buf_index >= regions:
            return f"has buf_index={self.buf_index}, and {regions} buffers are registered"
        if (fixed or self.api in _ONE_PIECE) and len(self.iov) != 1:
            return f"is {self.api} of {len(self.iov)} pieces"
        return ""


_ONE_PIECE = {"pread", "pwrite", "pread64", "pwrite64", "io_uring_read", "io_uring_write"}


class CapturedDevice(Part):
    """What it was done on: a block device itself, or a file that iomap maps."""

    name: str = ""
    kdev: int | str | None = None
    """major << 20 | minor, as its events have it, or '259:0'."""
    path: Literal["blkdev", "iomap"]
    size_bytes: _Bytes
    file_bytes: _Bytes | None = None
    """The length of the file (i_size); None for a device, and where it was not noted: the end of its last extent."""
    fs: str | None = None
    backing_dio: int | None = None
    """Whether a loop device hands requests to its file as direct IO; None for what is no loop device."""


class Capture(Part):
    """What is known of it, and what was recorded: `result`, `bios`, `events`, `nvme`, `pins` are only compared with."""

    format: Literal["labkit-capture-1", "labkit-capture-1+nvme"]
    id: Annotated[str, Field(pattern=r"^\S.*$", max_length=200)]
    kernel: str
    device: CapturedDevice
    limits: dict[str, Any]
    io: Annotated[list[CapturedIo], Field(min_length=1)]
    config: dict[str, Any] | None = None
    cmdline: str | None = None
    """What the kernel was started with: it tells of what `config` does not."""
    registered: list[tuple[_Bytes, _Registered]] | None = None
    batch: int | None = None
    extents: list[tuple[_Bytes, _Bytes, _Bytes, list[str]]] | None = None
    layout: CapturedLayout
    result: list[int | str] | None = None
    bios: list[dict[str, Any]] | None = None
    events: list[dict[str, Any]] | None = None
    nvme: list[dict[str, Any]] | None = None
    """The commands that the drive got (+nvme)."""
    note: str = ""
    date: str | None = None
    verified: bool | None = None
    """Whether the bytes in memory are those on the disk; None where nobody looked, or nothing came."""
    duration_ns: int | None = None
    """From just before the call to just after it."""
    pins: dict[str, Any] | None = None
    """Pages that were `acquired` and `released` meanwhile, in the whole machine."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse what does not go together."""
        for at, io in enumerate(self.io):
            if wrong := io.wrong(len(self.registered or ())):
                raise PydanticCustomError("io", f"io {at} {wrong}")
            if io.uring != self.io[0].uring:
                raise PydanticCustomError("io", f"io {at} is {io.api}, io 0 is {self.io[0].api}")
        if self.batch is not None and self.batch != len(self.io):
            raise PydanticCustomError("batch", f"batch={str(self.batch)[:60]}, and {len(self.io)} are in io")
        if self.device.path == "iomap" and self.extents is None:
            raise PydanticCustomError("extents", "a file has no extents")
        return self

    @classmethod
    def of(cls, values: Any, where: str = "it") -> Self:
        """Return the capture that `values`, of file `where`, are. Raises BadInput EINVAL: the first thing wrong."""
        if not isinstance(values, dict) or values.get("format") not in FORMATS:
            seen = str(values.get("format", "nothing"))[:40] if isinstance(values, dict) else type(values).__name__
            raise BadInput("capture", where, f"is of format {seen!r}, not {' or '.join(FORMATS)}", errno.EINVAL)
        try:
            return cls.model_validate(values)
        except ValidationError as bad:
            first = bad.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            rule = f"is broken{' at ' * bool(name)}{name}: {first['msg'][:1].lower()}{first['msg'][1:]}"
            raise BadInput("capture", where, rule, errno.EINVAL) from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the capture in `path`, a JSON file or one compressed with gzip. Raises BadInput."""
        try:
            values = json.loads(_read(path))
        except BadInput:
            raise
        except OSError as bad:
            why, code = bad.strerror or str(bad), bad.errno or errno.EIO
            raise BadInput("capture", str(path), f"cannot be read: {why}", code) from None
        except (ValueError, RecursionError, EOFError, zlib.error) as bad:
            what = str(bad).splitlines()[0] if str(bad) else type(bad).__name__
            raise BadInput("capture", str(path), f"is broken: {what}", errno.EINVAL) from None
        return cls.of(values, str(path))

    def save(self, path: Path) -> None:
        """Write it to `path`, packed where that ends in .gz: all of it, or nothing. Raises OSError."""
        text, part = self.model_dump_json(exclude_none=True).encode(), path.with_name(f".{path.name}.part")
        try:
            part.write_bytes(gzip.compress(text, 6, mtime=0) if path.suffix == ".gz" else text)
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise

    @cached_property
    def buffer(self) -> Layout:
        """The pages of the buffer as they were during the IO: what was seen afterwards is right, where it was noted."""
        rows = self.layout.before if self.layout.after is None else self.layout.after
        folios = [folio[:2] for folio in self.layout.large_folios]
        return Layout(rows, folios, bars=(self.config or {}).get("mode") == "p2p")

    @property
    def scheduler(self) -> str:
        """The scheduler of the queue, as sysfs marks it: in brackets, or alone. Raises BadInput."""
        text = str(self.limits.get("scheduler", "none")).strip()
        name = text[text.index("[") + 1 : text.index("]")] if re.search(r"\[.*\]", text) else text
        if name not in SCHEDULERS:
            rule = f"has scheduler={text[:60]!r}, which marks none of {', '.join(SCHEDULERS)}"
            raise BadInput("capture", self.id, rule, errno.EINVAL)
        return name

    @property
    def regions(self) -> list[Range]:
        """The (user address, bytes) of each registered buffer."""
        return list(self.registered or ())

    @property
    def of_nvme(self) -> bool:
        """Whether the commands of an NVMe drive were looked at, too."""
        return self.format.endswith("+nvme")

    @property
    def sgl_threshold(self) -> int:
        """The module parameter nvme.sgl_threshold in bytes, the kernel's own where none was given (NVME-4)."""
        params = self._told("nvme_params")
        found = re.search(r"\bsgl_threshold=(\w+)", str(self.cmdline if params is None else params))
        try:
            return int(found[1], 0) if found else SGL_THRESHOLD
        except ValueError:
            rule = f"has nvme_params={str(params)[:60]!r}, whose threshold is no number"
            raise BadInput("capture", self.id, rule, errno.EINVAL) from None

    @property
    def mode(self) -> str:
        """How memory got its device addresses: none, strict, lazy, swiotlb, or p2p. Raises BadInput for another."""
        mode = str(self._told("mode") or self._booted())
        if mode not in MODES:
            raise BadInput(
                "capture", self.id, f"has mode={mode[:40]!r}, which is none of {', '.join(MODES)}", errno.EINVAL
            )
        return mode

    @property
    def behind_iommu(self) -> str:
        """The mode of the IOMMU, strict or lazy; "" without one."""
        if self.mode == "p2p":
            return "" if str(self._told("iommu") or "none") in {"none", "off"} else "lazy"
        return self.mode if self.mode in {"strict", "lazy"} else ""

    @property
    def route(self) -> Route:
        """Where the memory of a peer is: below the same switch, or behind a host bridge that is known, or not (P2P-2).

        AMD's are known from family 0x17 on (P2P-3).
        """
        if self._told("topology") == "switch":
            return "switch"
        return "bridge" if str(self._told("cpu")).startswith("EPYC") else "none"

    @property
    def provider(self) -> str:
        """Whose memory the peer's is: that of the drive itself, or of another device."""
        return "nvme" if self._told("provider") == "own" else "peer"

    def _booted(self) -> str:
        """Return the mode that the kernel was started in: an IOMMU is lazy, unless it is told otherwise (IOVA-7)."""
        words = set((self.cmdline or "").split())
        if words & {"intel_iommu=on", "amd_iommu=on"} and not words & {"iommu=pt", "iommu.passthrough=1"}:
            return "strict" if "iommu.strict=1" in words else "lazy"
        return "swiotlb" if "swiotlb=force" in words else "none"

    def _told(self, name: str) -> Any:
        """Return what `config` says of `name`; None where it says nothing."""
        return (self.config or {}).get(name)

    @property
    def rules(self) -> tuple[Rules, bool]:
        """The rules of the kernel, and whether they were proven on it. Raises BadInput."""
        try:
            return rules_of(self.kernel)
        except BadInput as bad:
            raise BadInput("capture", self.id, f"has no rules: kernel {bad.what} {bad.rule}", bad.errno) from None

    @property
    def queue_limits(self) -> QueueLimits:
        """The limits of the queue; `max_sectors`, where it is told, goes before the KiB of sysfs. Raises BadInput."""
        try:
            limits = QueueLimits.from_sysfs(self.limits)
            told = (self.config or {}) | self.limits
            exact: dict[str, Any] = {name: number(told, name) for name in _EXACT if name in told}
            limits = replace(limits, **exact)
        except BadInput as bad:
            raise BadInput("capture", self.id, f"has impossible limits: {bad.what} {bad.rule}", bad.errno) from None
        if limits.nr_requests > _DEEPEST:
            rule = f"has impossible limits: nr_requests={limits.nr_requests} is more than {_DEEPEST}"
            raise BadInput("capture", self.id, rule, errno.EINVAL)
        return limits


def _read(path: Path) -> bytes:
    """Return what is in `path`, unpacked. Raises BadInput for what is no regular file, or too large."""
    if not path.stat() or not path.is_file():
        raise BadInput("capture", str(path), "is not a regular file", errno.EISDIR if path.is_dir() else errno.EINVAL)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        raw: bytes = file.read(_MOST + 1)
    if len(raw) > _MOST:
        raise BadInput("capture", str(path), f"is larger than {_MOST >> 20} MiB", errno.EFBIG)
    return raw
