"""A run as a file: the machine, its memory, the IO, the seed. Data, never code; nonsense is refused in one sentence."""

import errno
import json
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from labkit.errors import BadInput, ScenarioError
from labkit.scenario.link import Link, pack, unpack
from labkit.units import human_bytes

FOLIO_ORDER = {
    "4KiB": 0, "16KiB": 2, "32KiB": 3, "64KiB": 4, "128KiB": 5, "256KiB": 6, "512KiB": 7, "1MiB": 8, "2MiB": 9,
}  # fmt: skip
"""Folio sizes that anonymous memory may be made of, and their order; order 1 is none of them (THP_ORDERS_ALL_ANON)."""
KINDS = (
    *FOLIO_ORDER, "hugetlb", "hugetlb1g", "file", "file-private", "file-4MiB", "memfd", "secretmem", "zero", "ksm",
    "fork-shared", "fsdax", "devdax", "p2pdma", "device-coherent", "device-private", "gpu", "vfio", "foreign",
    "guest-memfd", "guest-memfd-private", "hidden", "vvar", "pfnmap-ram", "cxl", "registered", "kvec",
)  # fmt: skip
"""What a buffer may be made of: folios of a size, or another kind of memory (data/kinds.toml)."""
_TIB = 1 << 40
_NAME = 80
"""Characters of a name that nobody knows, as much as is repeated of it."""
Hazard = Literal[
    "munmap", "mprotect", "migrate", "compact", "fork", "truncate", "ksm", "unplug", "unplug-surprise", "early-unpin",
    "double-unpin", "missing-unpin",
]  # fmt: skip
"""What may happen to memory while a device uses it: an act of machine/hazards/acts.py."""
_HAPPENS_TO = {"truncate": "file", "unplug": "gpu", "unplug-surprise": "gpu"}


def _no_spaces(value: object) -> object:
    return value.replace(" ", "") if isinstance(value, str) else value


def _known_kind(value: str) -> str:
    if value not in KINDS:
        msg = f"is none of {', '.join(KINDS)}"
        raise ValueError(msg)
    return value


_Spaced = BeforeValidator(_no_spaces)
_BYTES: TypeAdapter[ByteSize] = TypeAdapter(Annotated[ByteSize, _Spaced])


class Scenario(BaseModel):
    """One machine and what is done on it. Sizes are bytes, as numbers or as text such as '1 MiB'."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    system: Literal["phyr", "page", "unified", "premapped"] = "phyr"
    kernel: Literal["6.1", "6.12", "6.18", "7.3"] = "7.3"
    """Whose rules hold for all that the compared systems share, and for page and unified above it."""
    device: Literal["nvme", "optane", "virtio", "ahci", "disk", "pmem", "null", "delay", "loop"] = "nvme"
    op: Literal["read", "write"] = "read"
    size: Annotated[ByteSize, _Spaced, Field(ge=1, le=_TIB)] = ByteSize(1 << 20)
    offset: Annotated[ByteSize, _Spaced, Field(ge=0, le=1 << 62)] = ByteSize(0)
    folio: Annotated[str, _Spaced, AfterValidator(_known_kind)] = "4KiB"
    """What the buffer is made of: one of KINDS."""
    fragmentation: float = Field(0.6, ge=0, le=1)
    iommu: Literal["off", "lazy", "strict"] = "lazy"
    """How unmaps of `dma=iommu` reach the IOTLB; off is `dma=direct`."""
    dma: Literal["direct", "iommu", "swiotlb", "xen"] | None = None
    """How memory gets its device addresses; None is iommu, or direct where `iommu` is off."""
    device_mask: int = Field(64, ge=16, le=64)
    """Bits of an address that the device can put on the bus."""
    route: Literal["switch", "bridge", "none"] = "bridge"
    """Where memory of another device is: below the same switch, behind a host bridge that lets it through, or not."""
    acs: bool = False
    """Whether the bridges of a switch redirect requests to the root (ACS)."""
    sgl_threshold: int = Field(32 << 10, ge=0, le=1 << 30)
    """nvme.sgl_threshold: from which average segment on NVMe uses SGLs, in bytes; 0 for never."""
    profile: dict[str, int | float] = Field({}, max_length=32)
    """Numbers of the device that are other than those of its profile, by their names in data/."""
    faults: tuple[str, ...] = Field((), max_length=8)
    """What breaks, and when: KIND@EVENT each, such as 'media-error@DeviceStart'."""
    ram: Annotated[ByteSize, _Spaced, Field(ge=64 << 20, le=16 * _TIB)] = ByteSize(4 << 30)
    seed: int = Field(1, ge=0, lt=1 << 63)
    buffer: Literal["mapped", "readonly", "unmapped"] = "mapped"
    """What the IO finds at the address that it is given."""
    skew: int = Field(0, ge=0, lt=4096)
    """How many bytes into its first page the buffer begins."""
    count: int = Field(1, ge=1, le=1_000_000)
    """How many times the IO is done."""
    fs: Literal["raw", "ext4", "xfs"] = "raw"
    """What the IO is done on: the device itself, or a file of a filesystem on it."""
    extents: Literal["mapped", "hole", "unwritten", "mixed", "shared", "inline"] = "mapped"
    """What the file is made of where the IO goes: `mixed` is mapped, hole and unwritten in turns."""
    scatter: float = Field(0, ge=0, le=1)
    """How far the file's blocks lie apart on the device: 0 as one, 1 each for itself."""
    direct: bool = True
    """Whether the file is opened with O_DIRECT; else the IO goes through the page cache."""
    api: Literal["pread", "preadv", "io_uring", "io_uring-fixed", "aio"] = "pread"
    """How the task asks: pread and pwrite, or their other forms."""
    pieces: int = Field(1, ge=1, le=1024)
    """In how many pieces the buffer is given to preadv and pwritev."""
    flags: str = Field("", max_length=80)
    """RWF_* of each call, such as 'RWF_NOWAIT|RWF_DSYNC'."""
    sched: Literal["none", "mq-deadline", "bfq", "kyber"] = "none"
    """The scheduler of the queue."""
    limits: dict[str, int] = Field({}, max_length=32)
    """Limits of the queue that are other than the device's own, by their names in QueueLimits."""
    stack: Literal["none", "partition", "stripe", "crypt"] = "none"
    """What stands on the disk: its second partition, a stripe over both, or encryption."""
    completion: Literal["phys_to_folio", "folio_walk"] = "phys_to_folio"
    """How the end of buffered IO finds its folios: as proposed, or as upstream."""
    pin: Literal["page", "folio", "range", "lease", "none"] | None = None
    """How the memory is kept in place; None is the currency's own: page counts pages, phyr holds ranges."""
    chunk: int = Field(0, ge=0, le=1 << 20)
    """How many ranges phyr takes at a time, such as 16 or 512; 0 for all at once."""
    hazard: Hazard | None = None
    """What gets in the way of the IO: of a file where it is truncated, of a GPU where that is unplugged."""
    at: Literal["GupPin", "BlockRqIssue", "DeviceStart", "DeviceDma", "BlockRqComplete"] = "DeviceStart"
    """The record of the IO in whose instant it does."""
    check: bool = False
    """Whether the invariants are looked at after every record."""

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Return the scenario that `values` describe. Raises ScenarioError with the first thing that is wrong."""
        try:
            return cls.model_validate(values)
        except ValidationError as bad:
            raise _sentence(bad) from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a scenario from a TOML file, or from a JSON file whose name says so. Raises ScenarioError."""
        try:
            text = path.read_text("utf-8")
            values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except OSError as bad:
            raise ScenarioError(
                "scenario", str(path), f"cannot be read: {bad.strerror}", bad.errno or errno.EIO
            ) from None
        except (ValueError, RecursionError) as bad:
            what = str(bad).splitlines()[0] if str(bad) else type(bad).__name__
            raise ScenarioError("scenario", str(path), f"is broken: {what}", errno.EINVAL) from None
        if not isinstance(values, dict):
            raise ScenarioError("scenario", str(path), "is not a table of names and values", errno.EINVAL)
        return cls.of(values)

    def link(self, t: int | None = None, selection: Iterable[int] = ()) -> str:
        """Return 'labkit:1:...', which carries this, the cursor `t` (ns) and the selected phyrs (link.py).

        Raises ScenarioError for more than a link can hold.
        """
        mine = self.model_dump(mode="json")
        told = self.model_dump(mode="json", exclude_defaults=True)
        settled = {name for name, other in (("folio", self.hazard), ("iommu", self.dma)) if other is not None}
        return pack(Link({**told, **{name: mine[name] for name in settled}}, t, tuple(selection)))

    @classmethod
    def of_link(cls, text: str) -> Self:
        """Return the scenario of a link, whatever its cursor and selection. Raises ScenarioError."""
        return cls.of(unpack(text).values)

    @model_validator(mode="before")
    @classmethod
    def _of_hazard(cls, values: Any) -> Any:
        """Let the buffer be what the hazard happens to, where nobody asks for another."""
        folio = _HAPPENS_TO.get(str(values.get("hazard"))) if isinstance(values, dict) else None
        return {"folio": folio, **values} if folio else values

    @model_validator(mode="before")
    @classmethod
    def _of_dma(cls, values: Any) -> Any:
        """Let `iommu` be off where `dma` is given, has none, and nobody asks for another."""
        without = isinstance(values, dict) and values.get("dma") not in {None, "iommu"} and "iommu" not in values
        return {**values, "iommu": "off"} if without else values

    @property
    def backend(self) -> str:
        """How memory gets its device addresses: direct, iommu, swiotlb or xen."""
        return self.dma or ("direct" if self.iommu == "off" else "iommu")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for misfit in self._misfits():
            raise ValueError(misfit)
        return self

    def _misfits(self) -> Iterator[str]:
        """Yield what does not go together, a sentence each."""
        if self.hazard and self.count > 1:
            yield f"hazard={self.hazard} gets in the way of one IO, and count={self.count}"
        if self.hazard and "RWF_APPEND" in self.flags:
            yield f"hazard={self.hazard} looks at the offset, and RWF_APPEND writes elsewhere"
        if self.pieces > 1 and self.api != "preadv":
            yield f"pieces={self.pieces} is for api=preadv, and api={self.api}"
        if self.extents != "mapped" and self.fs == "raw":
            yield f"extents={self.extents} is for a file, and fs=raw"
        if self.folio == "kvec" and not self.direct:
            yield "folio=kvec is the kernel's own buffer for direct IO, and direct=False"
        if self.size + self.skew > self.ram:
            yield f"size={human_bytes(self.size)} does not fit into ram={human_bytes(self.ram)}"
        yield from self._misfits_of_dma()

    def _misfits_of_dma(self) -> Iterator[str]:
        """Yield what does not go together in how memory is pinned, and mapped."""
        if self.backend == "iommu" and self.iommu == "off":
            yield "dma=iommu needs iommu=lazy or iommu=strict, and it is off"
        if self.backend != "iommu" and self.iommu != "off":
            yield f"dma={self.dma} has no IOMMU, and iommu={self.iommu}"
        if self.system != "phyr" and self.pin not in {None, "page"}:
            yield f"pin={self.pin} is for system=phyr: struct pages are counted page by page"
        if self.system != "phyr" and self.chunk:
            yield f"chunk={self.chunk} is for system=phyr: struct pages come as many as a bio has vectors"

    def check_device(self, nbytes: int) -> None:
        """Raise ScenarioError for a file that no device of `nbytes` can hold, or a hazard in an IO that ends beyond it.

        An IO on the device itself may: it is short, of no bytes, or ENOSPC, as the kernel says.
        """
        if (self.fs != "raw" or self.hazard) and self.offset + self.size > nbytes:
            code = errno.ENOSPC if self.op == "write" else errno.EINVAL
            rule = f"ends beyond the device of {human_bytes(nbytes)} (DIO-1)"
            raise ScenarioError("scenario", f"offset={self.offset} + size={self.size}", rule, code)


def parse_bytes(layer: str, name: str, value: int | str) -> int:
    """Return a size in bytes from a number or from text such as '1 MiB'. Raises BadInput, in the name of `layer`."""
    if isinstance(value, int):
        return int(value)  # a ByteSize, or a bool, is one too, and would end up in the trace
    try:
        return int(_BYTES.validate_python(value))
    except ValidationError:
        raise BadInput(
            layer, f"{name}={value!r}", "is not a number of bytes such as 4096 or '1 MiB'", errno.EINVAL
        ) from None


def _sentence(bad: ValidationError) -> ScenarioError:
    first = bad.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    rule = first["msg"].removeprefix("Value error, ")
    rule = rule[:1].lower() + rule[1:]
    name = name if name.isprintable() and len(name) <= _NAME else repr(name[:_NAME])
    what = f"{name}={str(first['input'])[:80]!r}:" if name else "it cannot be:"
    return ScenarioError("scenario", what, rule, errno.EINVAL)
