"""Reads and writes at random, many at a time, on every device and through every backend: not one byte is wrong."""

from itertools import cycle, islice

import pytest

from labkit.machine import Machine
from labkit.machine.workload import Load, offer

IOS, EACH = 200_000, 4_000
MACHINES = [
    {"device": "nvme", "iommu": "lazy"},
    {"device": "virtio", "dma": "direct"},
    {"device": "ahci", "iommu": "lazy", "kernel": "6.18"},
    {"device": "nvme", "iommu": "strict", "system": "page"},
    {"device": "null", "system": "unified"},
    {"device": "nvme", "dma": "swiotlb", "device_mask": 30},
    {"device": "virtio", "iommu": "strict", "system": "page", "kernel": "6.1"},
    {"device": "ahci", "dma": "swiotlb", "device_mask": 30},
    {"device": "nvme", "dma": "xen"},
    {"device": "virtio", "dma": "swiotlb", "device_mask": 30},
    {"device": "null"},
    {"device": "ahci", "dma": "direct", "system": "page", "kernel": "6.12"},
    {"device": "nvme", "dma": "direct", "system": "unified"},
]
"""Four devices, every backend, every currency that takes any buffer."""
LOAD = {"jobs": 2, "depth": 6, "read": 0.5, "size": "512,1 KiB,4 KiB,4 KiB,4 KiB,8 KiB,16 KiB", "span": "4 MiB"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_200_000_random_overlapping_reads_and_writes_move_no_byte_astray(nothing_held):
    done, served = 0, set()
    for seed, knobs in enumerate(islice(cycle(MACHINES), IOS // EACH)):
        with Machine(ram="128 MiB", seed=seed, **knobs) as machine:
            found = offer(machine, Load(**LOAD, count=EACH, seed=seed))
            assert (found.wrong, found.errors) == (0, {}), knobs
            nothing_held(machine)
        done += len(found.ios.ends)
        served.add((knobs["device"], machine.scenario.backend))
    assert done == IOS
    assert {device for device, _ in served} == {"nvme", "virtio", "ahci", "null"}
    assert {backend for _, backend in served} == {"direct", "iommu", "swiotlb", "xen"}
