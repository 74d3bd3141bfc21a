import ctypes
import errno
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from labkit.host import probe as module
from labkit.host.calls import mounts
from labkit.host.probe import Finding, Report, probe

NAMES = [
    "root",
    "kernel",
    "loop",
    "pagemap",
    "kpageflags",
    "tracefs",
    "mkfs",
    "io_uring",
    "hugepages",
    "thp",
    "mthp",
    "o_direct",
    "chromium",
    "bokeh",
    "ipywidgets",
    "anywidget",
    "jupyterlab",
    "jupyterlab_widgets",
]


def machine():
    """What a probe could change: loop devices, mounts, modules, huge pages, open files, the temporary directory."""
    files = ["/proc/mounts", "/proc/modules", "/proc/sys/vm/nr_hugepages"]
    return (
        [Path(name).read_text() for name in files if Path(name).exists()],
        sorted(path.name for path in Path("/sys/block").iterdir()),
        len(list(Path("/proc/self/fd").iterdir())),
    )


def test_every_question_has_a_finding_and_every_no_a_reason_and_a_remedy():
    report = probe()
    assert [finding.name for finding in report.findings] == NAMES
    for finding in report.findings:
        assert bool(finding.reason) is not finding.ok, finding
        assert bool(finding.remedy) is not finding.ok, finding
        assert finding.value or not finding.ok, finding
    assert report.ok == {finding.name: finding.ok for finding in report.findings}


def test_a_probe_changes_nothing():
    before = machine()
    probe()
    assert machine() == before


def test_a_probe_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert probe()["o_direct"].value in {"", str(tmp_path)}
    assert list(tmp_path.iterdir()) == []


def test_findings_are_found_by_name():
    finding = Finding("root", True, "uid 0")
    assert Report((finding,))["root"] is finding
    with pytest.raises(KeyError):
        Report((finding,))["branch"]


@pytest.mark.host
def test_root_sees_frames_flags_and_loop_devices():
    ok = probe().ok
    assert (ok["root"], ok["loop"], ok["pagemap"], ok["kpageflags"]) == (True, True, True, True)


def test_an_ordinary_user_is_told_so(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    finding = probe()["root"]
    assert (finding.ok, finding.value) == (False, "uid 65534")
    assert finding.remedy.startswith("run as root")


def test_a_hidden_pfn_is_a_no(monkeypatch):
    monkeypatch.setattr(module, "_own_pfn", lambda: 0)
    finding = probe()["pagemap"]
    assert (finding.ok, finding.value) == (False, "PFN 0")
    assert "CAP_SYS_ADMIN" in finding.reason


def test_a_machine_that_refuses_every_file_gives_a_report(monkeypatch):
    def refuse(path, *_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    report = probe()
    assert [finding.name for finding in report.findings] == NAMES
    assert not any(report.ok[name] for name in ("loop", "pagemap", "kpageflags", "tracefs", "thp", "o_direct"))
    assert report["pagemap"].reason == "/proc/self/pagemap: Permission denied (-EACCES)"


def test_a_machine_that_breaks_in_every_way_gives_a_report(monkeypatch):
    def explode(*_args, **_kwargs):
        raise RuntimeError("what?")

    for owner, name in ((os, "open"), (os, "uname"), (os, "access"), (Path, "read_text"), (shutil, "which")):
        monkeypatch.setattr(owner, name, explode)
    monkeypatch.setattr(ctypes, "CDLL", explode)
    report = probe()
    assert [finding.name for finding in report.findings] == NAMES
    assert report["kernel"].reason == "RuntimeError: what?"
    assert report["io_uring"].reason == "RuntimeError: what?"


@pytest.mark.parametrize(("number", "name"), [(errno.ENOSYS, "-ENOSYS"), (errno.EPERM, "-EPERM")])
def test_a_container_without_io_uring_is_told_the_errno(monkeypatch, number, name):
    class Libc:
        def __init__(self, *_args, **_kwargs):
            pass

        def syscall(self, *_args):
            ctypes.set_errno(number)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", Libc)
    finding = probe()["io_uring"]
    assert not finding.ok
    assert finding.reason == f"io_uring_setup: {os.strerror(number)} ({name})"


@pytest.mark.parametrize(("release", "ok"), [("6.18.44-fc", True), ("5.8.0", True), ("5.7.19", False), ("4.19", False)])
def test_the_kernel_must_know_loop_configure(monkeypatch, release, ok):
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "vm", release, "#1", "x86_64")))
    finding = probe()["kernel"]
    assert (finding.ok, finding.value) == (ok, release)


def test_thp_and_its_sizes_are_read_from_sysfs(tmp_path, monkeypatch):
    for name, text in {
        "enabled": "always [madvise] never",
        "hpage_pmd_size": "2097152",
        "hugepages-2048kB/enabled": "always [inherit] madvise never",
        "hugepages-64kB/enabled": "always inherit [madvise] never",
        "hugepages-16kB/enabled": "always inherit madvise [never]",
        "hugepages-8kB/shmem_enabled": "always inherit madvise [never]",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(module, "_THP", tmp_path)
    report = probe()
    assert (report["thp"].ok, report["thp"].value) == (True, "madvise")
    assert (report["mthp"].ok, report["mthp"].value) == (True, "64kB madvise, 2048kB inherit")
    (tmp_path / "hugepages-64kB/enabled").write_text("always inherit madvise [never]\n")
    (tmp_path / "enabled").write_text("always madvise [never]\n")
    report = probe()
    assert (report["mthp"].ok, report["mthp"].value) == (False, "2048kB inherit")
    assert (report["thp"].ok, report["thp"].value) == (False, "never")


def test_a_free_huge_page_is_a_yes(tmp_path, monkeypatch):
    pool = tmp_path / "hugepages-2048kB"
    pool.mkdir()
    (pool / "nr_hugepages").write_text("8\n")
    (pool / "free_hugepages").write_text("3\n")
    monkeypatch.setattr(module, "_HUGETLB", tmp_path)
    assert (probe()["hugepages"].ok, probe()["hugepages"].value) == (True, "2048kB: 3 of 8 free")
    (pool / "free_hugepages").write_text("0\n")
    assert (probe()["hugepages"].ok, probe()["hugepages"].reason) == (False, "no huge page is free")


def test_chromium_is_found_on_path(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}" if name == "google-chrome" else None)
    assert probe()["chromium"].value == "/opt/google-chrome"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert (probe()["chromium"].ok, probe()["chromium"].reason) == (False, "no Chromium on PATH")


def test_packages_are_held_against_the_exact_pins(monkeypatch):
    wanted = ["bokeh==3.9.2", "ipywidgets == 8.1.9 ; python_version > '3'", "anywidget>=0.1", "jupyterlab>=4.4,<5"]
    have = {"bokeh": "3.9.2", "ipywidgets": "8.1.7", "anywidget": "0.11.0", "jupyterlab": "4.5.0"}

    def version(name):
        if name not in have:
            raise importlib.metadata.PackageNotFoundError(name)
        return have[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda _: wanted)
    monkeypatch.setattr(importlib.metadata, "version", version)
    report = probe()
    assert report["bokeh"] == Finding("bokeh", True, "3.9.2 (as pinned)")
    assert report["anywidget"] == Finding("anywidget", True, "0.11.0")
    assert report["ipywidgets"] == Finding(
        "ipywidgets", False, "8.1.7", "labkit is made for 8.1.9", "pip install ipywidgets==8.1.9"
    )
    assert report["jupyterlab_widgets"].reason == "not installed"
    assert report["jupyterlab_widgets"].remedy == "pip install jupyterlab_widgets"


def test_without_an_installed_labkit_there_are_no_pins(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert probe()["bokeh"].ok
    assert "pinned" not in probe()["bokeh"].value


@pytest.mark.host
def test_tracefs_is_a_yes_for_root_though_it_is_mounted_nowhere(monkeypatch):
    monkeypatch.setattr(mounts, "mounted", lambda _: None)
    finding = probe()["tracefs"]
    assert (finding.ok, finding.value) == (True, "mounted nowhere; labkit mounts its own")


def test_tracefs_is_a_no_for_whom_may_not_mount(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(mounts, "mounted", lambda _: None)
    monkeypatch.setattr(mounts, "_call", refuse)
    finding = probe()["tracefs"]
    assert (finding.ok, finding.value) == (False, "")
    assert finding.reason.startswith("tracefs is not mounted, and a mount of one's own needs CAP_SYS_ADMIN")


@pytest.mark.parametrize(
    ("found", "ok", "reason"),
    [
        ({"mkfs.ext4", "mkfs.xfs"}, True, ""),
        ({"mkfs.ext4"}, False, "no mkfs.xfs is installed"),
        (set(), False, "no mkfs.ext4 and no mkfs.xfs is installed"),
    ],
)
def test_what_makes_filesystems_is_looked_for(monkeypatch, found, ok, reason):
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/sbin/{name}" if name in found else None)
    finding = probe()["mkfs"]
    assert (finding.ok, finding.reason, finding.value) == (ok, reason, ", ".join(f"/sbin/{n}" for n in sorted(found)))


MOUNTED = """
from labkit.host.probe import probe
print(probe()["tracefs"])
"""


@pytest.mark.host
def test_tracefs_is_a_yes_where_it_is_mounted(place):
    inside = 'mount -t tracefs nodev "$0" && exec "$1" -c "$2"'  # in a mount namespace of its own
    command = ["unshare", "-m", "sh", "-c", inside, str(place), sys.executable, MOUNTED]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if "mount:" in done.stderr:
        pytest.skip(f"tracefs cannot be mounted here: {done.stderr.strip()}")
    assert done.stdout.startswith("Finding(name='tracefs', ok=True, value='/")
