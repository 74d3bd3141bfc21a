import pytest

from labkit.cli.bench import copies
from labkit.cli.bench.copies import Copier
from labkit.errors import InvariantError
from labkit.machine import Machine


def test_a_transfer_brings_what_the_medium_holds():
    with Machine(iommu="lazy", fragmentation=0) as machine:
        copier = Copier(machine)
        ((pos, _, view), *_) = places = copier.places(64 << 10)[:1]
        copier.media[pos : pos + 8] = b"a marker"
        assert bytes(view[:8]) == bytes([1]) * 8
        assert copier.by_dma(64 << 10, places) >= 0
        assert bytes(view) == bytes(copier.media[pos : pos + (64 << 10)])
        view[:] = bytes(len(view))
        assert copier.by_cpu(64 << 10, places) >= 0
        assert bytes(view[:8]) == b"a marker"


def test_every_size_has_a_ratio(monkeypatch):
    monkeypatch.setattr(copies, "_BYTES", 4 << 20)
    found = copies.compare(1, lambda _what: None)
    assert [ratio.name for ratio in found] == ["DMA of 64 KiB", "DMA of 256 KiB", "DMA of 1 MiB"]
    assert all(ratio.ours > 0 and ratio.other > 0 for ratio in found)


def test_a_device_without_a_controller_is_refused():
    with Machine(device="null") as machine, pytest.raises(InvariantError, match="is no NVMe controller"):
        Copier(machine)
