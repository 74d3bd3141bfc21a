"""Every device that a scenario may name, and who builds it."""

from labkit.machine.build.ahci import build_ahci, build_disk
from labkit.machine.build.board import Builder
from labkit.machine.build.loop import build_loop
from labkit.machine.build.null import build_delay, build_null
from labkit.machine.build.nvme import build_nvme, build_optane
from labkit.machine.build.pmem import build_pmem
from labkit.machine.build.virtio import build_virtio

BUILD: dict[str, Builder] = {
    "nvme": build_nvme,
    "optane": build_optane,
    "virtio": build_virtio,
    "ahci": build_ahci,
    "disk": build_disk,
    "pmem": build_pmem,
    "null": build_null,
    "delay": build_delay,
    "loop": build_loop,
}
"""By the `device` of a scenario."""
