"""What memory of a terabyte costs the process that models it."""

import subprocess
import sys

import pytest

STATE = """
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.fault.memory import handle_mm_fault
from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.kernel.mm.fault.mmap import do_mmap

mm = Mm(Frames(Buddy(1 << 40), lambda record: None, lambda: 0))
for nbytes, order in ((256 << 30, 9), (1 << 30, 0)):
    vma = mm.space.find_vma(do_mmap(mm, nbytes, order=order))
    handle_mm_fault(mm, vma, 0, vma.pages)
assert sum(group.count for group in mm.folios.batches) == (256 << 9) + (1 << 18)
assert vma.table.word(vma.pages - 1)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the process is measured by /proc")
def test_a_terabyte_with_256_gib_in_folios_and_a_gib_of_small_pages_takes_less_than_60_mib():
    done = subprocess.run([sys.executable, "-c", STATE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60 << 10  # KiB, interpreter and numpy included
