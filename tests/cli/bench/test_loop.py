import pytest

from labkit.cli.bench import loop
from labkit.errors import NotAllowed
from labkit.host.calls import fio, loop_ioctl
from labkit.host.calls.fio import FioJob
from labkit.host.probe import probe


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A device of 4 MiB, wherever there is room."""
    monkeypatch.setattr(loop, "DEVICE_BYTES", 4 << 20)
    monkeypatch.setattr(loop, "TMPFS", tmp_path)
    return tmp_path


def left(place):
    return [path for _, path in loop_ioctl.attached() if path.startswith(f"{place}/")], list(place.iterdir())


@pytest.mark.host
@pytest.mark.parametrize("job", [FioJob("psync", 4096), FioJob("psync", 1 << 20)], ids=str)
def test_ours_does_ios_one_after_the_other(job, small):
    if not (finding := probe()["pagemap"]).ok:
        pytest.skip(finding.reason)
    with loop.device() as device:
        assert loop.psync(job, device, 0.01) > 0
    assert left(small) == ([], [])


@pytest.mark.host
@pytest.mark.parametrize("job", [FioJob("io_uring", 4096, 32), FioJob("io_uring", 65536, 8)], ids=str)
def test_ours_does_ios_side_by_side(job, small):
    for name in ("pagemap", "io_uring"):
        if not (finding := probe()[name]).ok:
            pytest.skip(finding.reason)
    with loop.device() as device:
        assert loop.uring(job, device, 0.01) > 0
    assert left(small) == ([], [])


@pytest.mark.host
def test_whatever_fails_the_device_goes(small, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fio, "version", lambda: "fio-0")
    monkeypatch.setattr(fio, "iops", fail)
    monkeypatch.setattr(loop, "psync", lambda *_: 1.0)
    with pytest.raises(KeyboardInterrupt):
        loop.compare(1, 1, lambda _what: None)
    assert left(small) == ([], [])


@pytest.mark.host
def test_each_job_is_set_against_fio(small, monkeypatch):
    rates = iter([100.0, 200.0] * len(loop.JOBS))
    monkeypatch.setattr(fio, "version", lambda: "fio-0")
    monkeypatch.setattr(fio, "iops", lambda *_: next(rates))
    monkeypatch.setattr(loop, "psync", lambda *_: 150.0)
    monkeypatch.setattr(loop, "uring", lambda *_: 150.0)
    found = loop.compare(2, 1, lambda _what: None)
    assert [(ratio.other, ratio.ratio) for ratio in found] == [(150.0, 1.125)] * 5
    assert [ratio.against for ratio in found] == ["fio-0"] * 3 + ["fio-0, buffers and files registered"] * 2
    assert left(small) == ([], [])


def test_without_a_tmpfs_nothing_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(loop, "TMPFS", tmp_path / "none")
    with pytest.raises(NotAllowed, match="is not there: mount a tmpfs on it"), loop.device():
        pass
