import pytest

from labkit.errors import NotAllowed
from labkit.host.memory.vm_events import counters

TEXT = "nr_free_pages 7\nthp_split_page 3\nthp_split_page_failed 11\n"


def test_counters_are_told_in_the_order_asked_for(tmp_path):
    path = tmp_path / "vmstat"
    path.write_text(TEXT)
    assert counters(("thp_split_page_failed", "thp_split_page"), path) == (11, 3)


def test_a_counter_that_the_kernel_has_not_is_named(tmp_path):
    path = tmp_path / "vmstat"
    path.write_text(TEXT)
    with pytest.raises(NotAllowed, match="vmstat: thp_collapse is not in /proc/vmstat: run a kernel with"):
        counters(("thp_split_page", "thp_collapse"), path)


def test_without_procfs_the_remedy_is_named(tmp_path):
    with pytest.raises(NotAllowed, match="cannot be read, No such file or directory: mount procfs"):
        counters(("thp_split_page",), tmp_path / "vmstat")
