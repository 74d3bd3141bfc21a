import sys

import pytest

from labkit.host.memory.arena import arena
from labkit.host.memory.resident import resident

STATUS = "Name:\tpython\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n"
SMAPS = """7f00-7f01 rw-p 00000000 00:00 0
Size:             262144 kB
KernelPageSize:        4 kB
Rss:                 512 kB
Pss:                 512 kB
7f02-7f03 rw-p 00000000 00:00 0
Size:               1000 kB
Rss:                 900 kB
"""


def test_arenas_are_told_from_the_rest_by_their_size(tmp_path):
    (tmp_path / "status").write_text(STATUS)
    (tmp_path / "smaps").write_text(SMAPS)
    assert resident(tmp_path) == (2048 << 10, 512 << 10, 1536 << 10)


def test_where_the_kernel_does_not_tell_nothing_is_told(tmp_path):
    assert resident(tmp_path) is None
    (tmp_path / "status").write_text("Name:\tpython\n")
    (tmp_path / "smaps").write_text("")
    assert resident(tmp_path) is None


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is of Linux")
def test_what_is_touched_of_an_arena_is_counted():
    before = resident()
    memory = arena(1 << 30)
    memory[: 8 << 20] = bytes(8 << 20)
    after = resident()
    assert 8 << 20 <= after.arenas - before.arenas <= 9 << 20
    assert after.peak >= after.rest > 0
