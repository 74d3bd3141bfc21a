"""What the tests of buffers share: an Undo, settings that are files of the test, and a look at what is mapped."""

import re
from pathlib import Path

import pytest

from labkit.host.memory.buffer import switches
from labkit.host.probe import probe
from labkit.host.undo import Undo

THP, POOL = Path("/sys/kernel/mm/transparent_hugepage"), Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


class Written:
    """An Undo of files that read as sysfs does: the word that was put stands in brackets then."""

    def __init__(self):
        self.log = []

    def put(self, path, value):
        text = path.read_text()
        said = found[1] if (found := re.search(r"\[(\w+)\]", text)) else text.strip()
        words = text.replace(f"[{said}]", said).split()
        path.write_text(" ".join(f"[{word}]" if word == value else word for word in words) if found else value)
        self.log.append((path.parent.name, value))
        return said


@pytest.fixture
def undo():
    with Undo() as mine:
        yield mine


@pytest.fixture
def root():
    """Skip, with the reason, where the frames are hidden."""
    if not (finding := probe()["pagemap"]).ok:
        pytest.skip(finding.reason)


@pytest.fixture
def says():
    """What every setting that a buffer may change says, while nobody else has a buffer made."""

    def look():
        with switches._alone():
            paths = [*THP.glob("*enabled"), *THP.glob("hugepages-*/*enabled"), *POOL.glob("nr_overcommit_hugepages")]
            return {path: path.read_text() for path in [*paths, Path("/proc/sys/vm/nr_hugepages")]}

    return look


@pytest.fixture
def mapped():
    """Tell whether an address of this process is mapped to anything."""

    def look(address):
        spans = re.findall(r"^(\w+)-(\w+) ", Path("/proc/self/maps").read_text(), re.MULTILINE)
        return any(int(start, 16) <= address < int(end, 16) for start, end in spans)

    return look


@pytest.fixture
def sysfs(tmp_path, monkeypatch):
    """A directory of settings of huge pages as Linux 6.18 has it at boot, and a pool with none."""
    thp, pool = tmp_path / "thp", tmp_path / "pool"
    for size, said in ((16, "never"), (64, "never"), (1024, "never"), (2048, "inherit")):
        folder = thp / f"hugepages-{size}kB"
        folder.mkdir(parents=True)
        for name, words in (("enabled", "always inherit madvise never"), ("shmem_enabled", "inherit advise never")):
            (folder / name).write_text(words.replace(said, f"[{said}]"))
    (thp / "enabled").write_text("always [madvise] never")
    (thp / "shmem_enabled").write_text("always within_size advise [never] deny force")
    pool.mkdir()
    for name in ("free_hugepages", "resv_hugepages", "surplus_hugepages", "nr_overcommit_hugepages"):
        (pool / name).write_text("0\n")
    monkeypatch.setattr(switches, "_THP", thp)
    monkeypatch.setattr(switches, "_POOL", pool)
    return tmp_path


@pytest.fixture
def written():
    return Written()
