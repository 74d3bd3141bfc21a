import fcntl
import os

import pytest

from labkit.errors import NotAllowed
from labkit.host.memory.buffer import switches
from labkit.host.memory.buffer.switches import anonymous, hugetlb, shared, switched

KIB, MIB = 1 << 10, 1 << 20


def short(wanted):
    return {f"{path.parent.name}/{path.name}": value for path, value in wanted.items()}


@pytest.mark.usefixtures("sysfs")
def test_folios_of_64_kib_are_let_be_and_no_larger_ones():
    assert short(anonymous(64 * KIB)) == {"hugepages-2048kB/enabled": "never", "hugepages-64kB/enabled": "madvise"}


def test_every_larger_size_is_off_while_a_smaller_one_is_touched(sysfs):
    (sysfs / "thp/hugepages-1024kB/enabled").write_text("[always] inherit madvise never")
    (sysfs / "thp/hugepages-64kB/enabled").write_text("always [inherit] madvise never")
    (sysfs / "thp/hugepages-16kB/enabled").write_text("always inherit [madvise] never")
    assert short(anonymous(16 * KIB)) == {
        "hugepages-1024kB/enabled": "never",
        "hugepages-2048kB/enabled": "never",
        "hugepages-64kB/enabled": "never",
    }


def test_huge_pages_need_no_change_where_programs_may_ask_for_them(sysfs):
    assert anonymous(2 * MIB) == {}
    (sysfs / "thp/enabled").write_text("always madvise [never]")
    assert short(anonymous(2 * MIB)) == {"hugepages-2048kB/enabled": "madvise"}


@pytest.mark.usefixtures("sysfs")
def test_a_size_that_the_kernel_has_not_is_told_so():
    with pytest.raises(NotAllowed, match="folios of 32 KiB are none of this kernel's: run Linux 6"):
        anonymous(32 * KIB)


def test_before_linux_6_8_there_is_one_size(tmp_path, monkeypatch):
    monkeypatch.setattr(switches, "_THP", tmp_path)
    (tmp_path / "enabled").write_text("always madvise [never]")
    assert anonymous(2 * MIB) == {tmp_path / "enabled": "madvise"}
    (tmp_path / "enabled").write_text("[always] madvise never")
    assert anonymous(2 * MIB) == {}
    with pytest.raises(NotAllowed, match="Linux 6"):
        anonymous(64 * KIB)


def test_shared_memory_is_let_be_huge_for_its_one_size(sysfs):
    assert short(shared()) == {"hugepages-2048kB/shmem_enabled": "advise"}
    (sysfs / "thp/shmem_enabled").write_text("always within_size [advise] never deny force")
    assert shared() == {}


def test_before_linux_6_10_the_setting_of_shared_memory_is_the_one_for_all(sysfs):
    (sysfs / "thp/hugepages-2048kB/shmem_enabled").unlink()
    assert short(shared()) == {"thp/shmem_enabled": "advise"}


def test_shared_memory_that_was_denied_huge_pages_stays_so(sysfs):
    (sysfs / "thp/shmem_enabled").write_text("always within_size advise never [deny] force")
    with pytest.raises(NotAllowed, match="says deny: echo never >"):
        shared()


@pytest.mark.parametrize(
    ("free", "held", "beyond", "most", "needed"),
    [
        (0, 0, 0, 0, "3"),
        (3, 0, 0, 0, None),
        (4, 2, 0, 0, "1"),
        (1, 0, 5, 6, "7"),
        (0, 0, 2, 5, None),
        (9, 0, 2, 0, None),
    ],
)
def test_huge_pages_that_the_pool_has_not_free_are_let_be_had_beyond_it(sysfs, free, held, beyond, most, needed):
    names = ("free_hugepages", "resv_hugepages", "surplus_hugepages", "nr_overcommit_hugepages")
    for name, value in zip(names, (free, held, beyond, most), strict=True):
        (sysfs / "pool" / name).write_text(f"{value}\n")
    assert short(hugetlb(5 * MIB)) == ({"pool/nr_overcommit_hugepages": needed} if needed else {})


def test_a_kernel_without_hugetlb_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(switches, "_POOL", tmp_path / "none")
    with pytest.raises(NotAllowed, match="is not there: the kernel has no hugetlb"):
        hugetlb(MIB)


def test_settings_hold_within_and_say_afterwards_what_they_said_before(sysfs, written):
    with switched(written, lambda: anonymous(64 * KIB)):
        assert (sysfs / "thp/hugepages-2048kB/enabled").read_text() == "always inherit madvise [never]"
        assert (sysfs / "thp/hugepages-64kB/enabled").read_text() == "always inherit [madvise] never"
    assert (sysfs / "thp/hugepages-2048kB/enabled").read_text() == "always [inherit] madvise never"
    assert (sysfs / "thp/hugepages-64kB/enabled").read_text() == "always inherit madvise [never]"
    assert written.log == [
        ("hugepages-2048kB", "never"),
        ("hugepages-64kB", "madvise"),
        ("hugepages-64kB", "never"),
        ("hugepages-2048kB", "inherit"),
    ]


def test_what_fails_within_leaves_the_settings_as_they_were(sysfs, written):
    with pytest.raises(KeyboardInterrupt), switched(written, lambda: anonymous(64 * KIB)):
        raise KeyboardInterrupt
    assert (sysfs / "thp/hugepages-2048kB/enabled").read_text() == "always [inherit] madvise never"


def test_a_setting_that_cannot_be_changed_takes_back_those_before_it(sysfs, written, monkeypatch):
    put = written.put

    def refuse(path, value):
        if value == "madvise":
            raise NotAllowed("undo", str(path), "needs root: run as root", 13)
        return put(path, value)

    monkeypatch.setattr(written, "put", refuse)
    with pytest.raises(NotAllowed), switched(written, lambda: anonymous(64 * KIB)):
        pytest.fail("nothing is done where a setting does not hold")
    assert (sysfs / "thp/hugepages-2048kB/enabled").read_text() == "always [inherit] madvise never"


def test_two_processes_do_not_change_the_settings_at_one_time(sysfs, written):
    other = os.open(sysfs / "thp/enabled", os.O_RDONLY)
    try:
        with switched(written, dict), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)


def test_a_kernel_without_huge_pages_is_told_so(tmp_path, monkeypatch, written):
    monkeypatch.setattr(switches, "_THP", tmp_path / "none")
    with pytest.raises(NotAllowed, match="is not there: the kernel has no huge pages"), switched(written, dict):
        pytest.fail("there is nothing to be switched")
