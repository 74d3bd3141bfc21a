import os

import pytest

from labkit.errors import BadInput
from labkit.host.undo import settings

THP = "/sys/kernel/mm/transparent_hugepage"
MAY = [
    ("/sys/block/loop0/queue/scheduler", "mq-deadline"),
    ("/sys/block/loop12/queue/max_sectors_kb", "1280"),
    ("/sys/block/loop0/queue/nomerges", "2"),
    ("/proc/sys/vm/nr_hugepages", "0"),
    ("/proc/sys/vm/nr_overcommit_hugepages", "64"),
    ("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", "8"),
    (f"{THP}/enabled", "madvise"),
    (f"{THP}/hugepages-64kB/enabled", "inherit"),
    (f"{THP}/hugepages-2048kB/shmem_enabled", "within_size"),
    (f"{THP}/khugepaged/scan_sleep_millisecs", "10000"),
]
MAY_NOT = [
    ("/sys/block/vda/queue/scheduler", "none"),
    ("/sys/block/loop0/queue/../../vda/queue/scheduler", "none"),
    ("/sys/block/loop0/queue/read_ahead_kb", "0"),
    ("/sys/block/loop0/queue/nomerges\n", "0"),
    ("/sys/block/loop٣/queue/nomerges", "0"),
    (f"{THP}/khugepaged/../enabled", "never"),
    ("/proc/sys/kernel/core_pattern", "x"),
    ("/etc/passwd", "x"),
    ("relative/sys/block/loop0/queue/nomerges", "0"),
    ("/sys/block/loop0/queue/nomerges", ""),
    ("/sys/block/loop0/queue/nomerges", "0\n1"),
    ("/sys/block/loop0/queue/scheduler", "a b"),
    ("/sys/block/loop0/queue/scheduler", "n" * 33),
]


@pytest.mark.parametrize(("path", "value"), MAY)
def test_these_settings_may_be_changed(path, value):
    settings.check(path, value)
    assert settings.may_change(path, value)


@pytest.mark.parametrize(("path", "value"), MAY_NOT)
def test_nothing_else_may_be(path, value):
    assert not settings.may_change(path, value)
    with pytest.raises(BadInput, match=r"undo: .* is none of the settings and words of labkit: .* \(-EINVAL\)"):
        settings.check(path, value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("128\n", "128"), ("always [madvise] never\n", "madvise"), ("[none] mq-deadline\n", "none"), ("none\n", "none")],
)
def test_the_chosen_word_is_what_a_setting_says(tmp_path, text, said):
    path = tmp_path / "setting"
    path.write_text(text)
    fd = settings.opened(str(path))
    assert settings.read(fd) == said
    os.close(fd)


def test_what_is_written_is_said_by_the_same_descriptor(tmp_path):
    path = tmp_path / "setting"
    path.write_text("00")
    fd = settings.opened(str(path))
    settings.write(fd, "64")
    assert settings.read(fd) == "64" == path.read_text()
    os.close(fd)
