import errno
import os

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.calls import fio
from labkit.host.calls.fio import FioJob


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a shell script first on PATH, under fio's name."""

    def put(script):
        path = tmp_path / "fio"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return put


def test_the_rate_is_what_fio_reports(stand_in):
    stand_in("""echo '{"jobs": [{"read": {"iops": 1234.5}, "write": {"iops": 99}}]}'""")
    assert fio.iops(FioJob("psync", 4096), "/dev/null", 1) == 1234.5
    assert fio.iops(FioJob("psync", 4096, write=True), "/dev/null", 1) == 99


def test_fio_is_told_what_the_job_is(stand_in, tmp_path):
    stand_in(f"""echo "$@" > {tmp_path}/said; echo '{{"jobs": [{{"read": {{"iops": 1}}}}]}}'""")
    fio.iops(FioJob("io_uring", 4096, 32, fixed=True), "/dev/loop9", 2)
    said = set((tmp_path / "said").read_text().split())
    told = {"--filename=/dev/loop9", "--ioengine=io_uring", "--iodepth=32", "--bs=4096", "--direct=1", "--runtime=2"}
    assert told | {"--rw=randread", "--fixedbufs=1", "--registerfiles=1"} <= said
    fio.iops(FioJob("io_uring", 4096, 32), "/dev/loop9", 2)
    assert "--fixedbufs=1" not in (tmp_path / "said").read_text()


def test_what_fio_cannot_do_is_said_in_its_words(stand_in):
    stand_in("echo first >&2; echo 'fio: no such device' >&2; exit 3")
    with pytest.raises(SyscallError, match=r"fails: fio: no such device \(-EIO\)"):
        fio.iops(FioJob("psync", 4096), "/dev/null", 1)


@pytest.mark.parametrize("out", ["nothing of sense", '{"jobs": []}', "{}"])
def test_a_report_that_is_none_is_an_error(stand_in, out):
    stand_in(f"echo '{out}'")
    with pytest.raises(SyscallError, match="leaves no report"):
        fio.iops(FioJob("psync", 4096), "/dev/null", 1)


def test_a_fio_that_never_ends_is_ended(stand_in, monkeypatch):
    monkeypatch.setattr(fio, "_GRACE", 0.2)
    stand_in("exec sleep 60")
    with pytest.raises(SyscallError) as bad:
        fio.version()
    assert bad.value.errno == errno.ETIMEDOUT


def test_where_there_is_no_fio_the_remedy_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert fio.installed() is None
    with pytest.raises(NotAllowed, match="fio is not installed: apt install fio"):
        fio.version()


def test_the_real_one_tells_its_version():
    if fio.installed() is None:
        pytest.skip("fio is not installed")
    assert fio.version().startswith("fio-")
