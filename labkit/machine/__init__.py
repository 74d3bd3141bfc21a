"""A machine, built bottom-up from a scenario; the only file that knows everything.

m = Machine(ram="4 GiB", device="nvme", system="phyr", iommu="lazy", fragmentation=0.6, seed=7)
task = m.task()
buf = task.mmap("1 MiB", folio="4 KiB")
fd = task.open("/dev/nvme0n1", "O_RDONLY|O_DIRECT")
task.pread(fd, buf, "1 MiB", offset=0)
m.trace
"""

from labkit.machine.build import DATA
from labkit.machine.machine import Machine

__all__ = ["DATA", "Machine"]
