import pytest

from labkit.host.queue_sysfs import queues


@pytest.fixture
def sysfs(tmp_path):
    """Two devices, the second without any bytes."""
    for name, size in (("sda", "2048"), ("loop7", "0")):
        (tmp_path / name / "queue").mkdir(parents=True)
        (tmp_path / name / "size").write_text(f"{size}\n")
        (tmp_path / name / "queue" / "max_segments").write_text("168\n")
    return tmp_path


def test_numbers_are_numbers_and_words_are_words(sysfs):
    (sysfs / "sda/queue/write_cache").write_text("write back\n")
    assert queues(sysfs) == {"sda": {"max_segments": 168, "write_cache": "write back"}}


def test_what_cannot_be_read_is_left_out(sysfs):
    (sysfs / "sda/queue/iosched").mkdir()
    (sysfs / "sda/queue/odd").write_bytes(b"\xff\xfe")
    assert queues(sysfs) == {"sda": {"max_segments": 168}}


def test_a_machine_without_sysfs_has_no_queues(tmp_path):
    assert queues(tmp_path / "sys") == {}
