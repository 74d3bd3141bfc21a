"""Questions to this machine become findings: what it lets the lab do, and the reason and remedy for each no."""

import ctypes
import errno
import fcntl
import importlib.metadata
import mmap
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import LabkitError, errno_name
from labkit.host.calls import mounts
from labkit.host.disk import filesystem
from labkit.units import PAGE_SHIFT, PAGE_SIZE

_PFN_MASK = (1 << 55) - 1
_IO_URING_SETUP = 425
_IO_URING_PARAMS_BYTES = 120
_OLDEST_KERNEL = (5, 8)
_THP = Path("/sys/kernel/mm/transparent_hugepage")
_HUGETLB = Path("/sys/kernel/mm/hugepages")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PACKAGES = ("bokeh", "ipywidgets", "anywidget", "jupyterlab", "jupyterlab_widgets")
_ROOT = "run as root"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question: yes or no, what was seen, and for a no the reason and the remedy."""

    name: str
    ok: bool
    value: str
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The findings about this machine, in the order of asking."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> dict[str, bool]:
        """The yes or no of each finding, by its name."""
        return {finding.name: finding.ok for finding in self.findings}

    def __getitem__(self, name: str) -> Finding:
        """Return the finding `name`. Raises KeyError."""
        return {finding.name: finding for finding in self.findings}[name]


class _NoError(Exception):
    """The answer is no: the reason, and the value that was seen."""

    def __init__(self, reason: str, value: str = "") -> None:
        super().__init__(reason)
        self.reason, self.value = reason, value


def probe() -> Report:
    """Return what this machine lets the lab do. Changes nothing, and raises nothing: a failure is a finding."""
    asked = [_find(name, question, remedy) for name, question, remedy in _QUESTIONS]
    pins = _pins()
    return Report((*asked, *(_package(name, pins.get(_plain(name), "")) for name in _PACKAGES)))


def _find(name: str, question: Callable[[], str], remedy: str) -> Finding:
    """Return the finding of `question`, which returns a value or raises."""
    try:
        return Finding(name, True, question())
    except _NoError as no:
        return Finding(name, False, no.value, no.reason, remedy)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        reason = f"{place}{error.strerror} ({errno_name(error.errno or errno.EIO)})"
        return Finding(name, False, "", reason, remedy)
    except Exception as error:  # noqa: BLE001  # a report with one strange line is worth more than none
        return Finding(name, False, "", f"{type(error).__name__}: {error}", remedy)


def _root() -> str:
    uid = os.geteuid()
    if uid:
        raise _NoError("an ordinary user sees no frames, loop devices or traces", f"uid {uid}")
    return "uid 0"


def _kernel() -> str:
    release = os.uname().release
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if version < _OLDEST_KERNEL:
        raise _NoError("LOOP_CONFIGURE came with Linux 5.8", release)
    return release


def _loop() -> str:
    # An open of the static node would load the module, and nothing is to be changed.
    if not Path("/sys/class/misc/loop-control").exists():
        raise _NoError("the loop module is not loaded")
    os.close(os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC))
    return "/dev/loop-control"


def _own_pfn() -> int:
    """Return the PFN of a touched page of this process, 0 when the kernel hides it. Raises OSError."""
    with mmap.mmap(-1, PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page[0] = 1
        first = ctypes.c_char.from_buffer(page)
        address = ctypes.addressof(first)
        del first  # the page cannot be unmapped while it is exported
        entry = _u64_at("/proc/self/pagemap", (address >> PAGE_SHIFT) * 8)
    return entry & _PFN_MASK


def _u64_at(path: str, pos: int) -> int:
    """Return the 64-bit word at byte `pos` of `path`. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(struct.unpack("=Q", os.pread(fd, 8, pos))[0])
    finally:
        os.close(fd)


def _pagemap() -> str:
    if not (pfn := _own_pfn()):
        raise _NoError("/proc/self/pagemap hides the PFN without CAP_SYS_ADMIN", "PFN 0")
    return f"PFN {pfn:#x}"


def _kpageflags() -> str:
    return f"flags {_u64_at('/proc/kpageflags', _own_pfn() * 8):#x}"


def _tracefs() -> str:
    if root := mounts.mounted("tracefs"):
        _check_tracefs(root)
        return str(root)
    try:
        with mounts.mount("tracefs") as own:
            _check_tracefs(own.path)
    except LabkitError as no:
        raise _NoError(f"tracefs is not mounted, and a mount of one's own {no.rule.partition(':')[0]}") from no
    return "mounted nowhere; labkit mounts its own"


def _check_tracefs(root: Path) -> None:
    """Raise _NoError unless `root` lets instances be made."""
    if not os.access(root / "events", os.R_OK | os.X_OK):
        raise _NoError(f"{root}/events cannot be read", str(root))
    if not os.access(root / "instances", os.W_OK | os.X_OK):
        raise _NoError(f"{root}/instances cannot be written", str(root))


def _mkfs() -> str:
    found = {fs: filesystem.program(fs) for fs in filesystem.MKFS}
    value = ", ".join(path for path in found.values() if path)
    if missing := [filesystem.MKFS[fs][0] for fs, path in found.items() if not path]:
        raise _NoError(f"no {' and no '.join(missing)} is installed", value)
    return value


def _io_uring() -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    params = ctypes.create_string_buffer(_IO_URING_PARAMS_BYTES)
    fd = libc.syscall(ctypes.c_long(_IO_URING_SETUP), ctypes.c_long(1), params)
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "io_uring_setup")
    os.close(fd)
    return "io_uring_setup works"


def _hugepages() -> str:
    pools = sorted(_HUGETLB.glob("hugepages-*"))
    free = {pool: int((pool / "free_hugepages").read_text()) for pool in pools}
    parts = (f"{_size(pool)}: {free[pool]} of {(pool / 'nr_hugepages').read_text().strip()} free" for pool in pools)
    value = ", ".join(parts)
    if not any(free.values()):
        raise _NoError("no huge page is free" if pools else "the kernel has no hugetlb", value)
    return value


def _size(pool: Path) -> str:
    """Return '64kB' for the path .../hugepages-64kB."""
    return pool.name.removeprefix("hugepages-")


def _chosen(path: Path) -> str:
    """Return 'madvise' for a sysfs file that reads 'always [madvise] never'. Raises OSError."""
    text = path.read_text()
    found = re.search(r"\[(\w+)\]", text)
    return found[1] if found else text.strip()


def _thp() -> str:
    setting = _chosen(_THP / "enabled")
    if setting == "never":
        raise _NoError("THP is switched off", setting)
    return setting


def _mthp() -> str:
    pmd_size = f"{int((_THP / 'hpage_pmd_size').read_text()) >> 10}kB"
    # A size with shmem_enabled alone, such as 8kB, is none of anonymous memory.
    pools = sorted(_THP.glob("hugepages-*/enabled"), key=lambda path: int(re.sub(r"\D", "", path.parent.name)))
    settings = {_size(path.parent): _chosen(path) for path in pools}
    value = ", ".join(f"{size} {setting}" for size, setting in settings.items() if setting != "never")
    if not any(setting != "never" for size, setting in settings.items() if size != pmd_size):
        raise _NoError("no size below a PMD is enabled", value)
    return value


def _o_direct() -> str:
    with tempfile.TemporaryFile() as file:  # O_TMPFILE: a file without a name
        flags = fcntl.fcntl(file, fcntl.F_GETFL)
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_DIRECT)
    return tempfile.gettempdir()


def _chromium() -> str:
    for name in _BROWSERS:
        if path := shutil.which(name):
            return path
    raise _NoError("no Chromium on PATH")


def _plain(name: str) -> str:
    """Return a package name in its one normal spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins() -> dict[str, str]:
    """Return the exact versions that labkit asks for, by package; none where labkit is not installed."""
    try:
        wanted = importlib.metadata.requires("labkit") or []
    except Exception:  # noqa: BLE001  # not installed, or not readable: then nothing is known to be pinned
        return {}
    found = (re.match(r"([\w.-]+)\s*==\s*([^\s;,]+)", line) for line in wanted)
    return {_plain(match[1]): match[2] for match in found if match}


def _package(name: str, pin: str) -> Finding:
    """Return whether package `name` is installed, in exactly the version `pin` if there is one."""

    def question() -> str:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise _NoError("not installed") from None
        if pin and version != pin:
            raise _NoError(f"labkit is made for {pin}", version)
        return f"{version} (as pinned)" if pin else version

    return _find(name, question, f"pip install {name}{pin and f'=={pin}'}")


_QUESTIONS: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("root", _root, f"{_ROOT} for the real floor; the simulated one needs none"),
    ("kernel", _kernel, "run a newer kernel, or use --device nvme"),
    ("loop", _loop, f"{_ROOT} with the loop module loaded (modprobe loop), or use --device nvme"),
    ("pagemap", _pagemap, f"{_ROOT}; the simulated machine has frames of its own"),
    ("kpageflags", _kpageflags, _ROOT),
    ("tracefs", _tracefs, f"{_ROOT}: mount -t tracefs nodev /sys/kernel/tracing; or replay a recorded capture"),
    ("mkfs", _mkfs, "apt-get install e2fsprogs xfsprogs; only real IO to a file asks for them"),
    ("io_uring", _io_uring, "sysctl kernel.io_uring_disabled=0, or a container whose seccomp profile allows it"),
    ("hugepages", _hugepages, "sysctl vm.nr_hugepages=64"),
    ("thp", _thp, f"echo madvise > {_THP}/enabled"),
    ("mthp", _mthp, f"echo madvise > {_THP}/hugepages-64kB/enabled"),
    ("o_direct", _o_direct, "set TMPDIR to a directory on ext4 or xfs"),
    ("chromium", _chromium, "apt-get install chromium; only the browser tests need it"),
)
