import os

import numpy as np
import pytest

from labkit.errors import NotAllowed
from labkit.host.calls.ring import Ring
from labkit.host.memory import vmstat
from labkit.host.memory.arena import arena


@pytest.fixture
def proc(tmp_path):
    """A procfs with two counters, that everybody may refresh."""
    (tmp_path / "sys/vm").mkdir(parents=True)
    (tmp_path / "sys/vm/stat_refresh").write_text("")
    (tmp_path / "vmstat").write_text("nr_free_pages 12\nnr_foll_pin_acquired 266\nnr_foll_pin_released 10\nnr_x 3\n")
    return tmp_path


def test_the_counters_are_found_by_their_names(proc):
    assert vmstat.pins(proc) == (266, 10, True)


def test_where_nobody_refreshes_them_they_are_not_exact(proc):
    (proc / "sys/vm/stat_refresh").unlink()
    assert vmstat.pins(proc) == (266, 10, False)


def test_a_kernel_that_does_not_count_pins_is_told_so(proc):
    (proc / "vmstat").write_text("nr_free_pages 12\nnr_foll_pin_acquired 266\n")
    with pytest.raises(NotAllowed, match=r"vmstat: nr_foll_pin_acquired .* run Linux 5.7 or newer.*\(-ENOSYS\)"):
        vmstat.pins(proc)


def test_a_machine_without_procfs_is_told_so(tmp_path):
    with pytest.raises(NotAllowed, match=r"vmstat cannot be read, No such file or directory: mount procfs \(-ENOENT\)"):
        vmstat.pins(tmp_path)


@pytest.mark.host
def test_registered_memory_is_pinned_page_by_page_and_let_go_of_as_one():
    if os.geteuid():
        pytest.skip("only root may refresh the counters")
    buffer = arena(1 << 20)
    buffer[:] = b"x" * len(buffer)
    with Ring() as ring:
        before = vmstat.pins()
        ring.register_memory([(int(np.frombuffer(buffer, np.uint8).ctypes.data), len(buffer))])
        held = vmstat.pins()
    after = vmstat.pins()
    assert before.exact
    assert held.acquired - before.acquired >= 256
    assert after.released - before.released >= 256
