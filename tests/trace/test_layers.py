from labkit.trace.events import (
    AtaQcIssue,
    BlockBioBackmerge,
    BlockBioQueue,
    BlockGetrq,
    BlockRqIssue,
    DeviceDma,
    DmaMap,
    DmaUnmap,
    GupPin,
    GupUnpin,
    IomapIterDstmap,
    IotlbFill,
    IovIterZero,
    PmemSubmitBio,
    VirtqueueAdd,
)
from labkit.trace.layers import BELOW_DIO, LAYERS, layers


def test_of_no_records_every_meter_of_every_layer_is_nothing():
    told = layers(())
    assert {layer: tuple(meters) for layer, meters in told.items()} == LAYERS
    assert {value for meters in told.values() for value in meters.values()} == {0}
    assert set(BELOW_DIO) < set(LAYERS)


def test_each_record_is_counted_on_its_own_floor():
    told = layers([
        GupPin(t=0, io=1, token=1, policy="page", addr=0, ranges=((0, 4096), (8192, 4096)), ptes=2, atomics=2,
               struct_pages=2, descriptor_bytes=32, cache_lines=2, mm=0, faults=1),
        IomapIterDstmap(0, 1, 12, 0, 0, 8192, "mapped", ""),
        IovIterZero(0, 1, 0, 512),
        BlockBioQueue(0, 1, 1, 0, 16, 2, 0),
        BlockGetrq(t=0, io=1, rq=1, tag=0, bio=1, sector=0, nr_sector=8, segments=1),
        BlockBioBackmerge(0, 1, 1, 1, 8, 8, 1),
        BlockRqIssue(t=0, io=1, rq=1, tag=0, sector=0, nr_sector=16),
        DmaMap(t=0, io=1, rq=1, phys=((0, 4096), (8192, 4096)), dma=((0, 8192),), maps=2, conversions=2,
               descriptor_bytes=64, struct_pages=1, ioptes=2, bounced=4096),
        VirtqueueAdd(0, 1, 1, 0, 0, 8192, True, 3, 64, "", ""),
        AtaQcIssue(0, 1, 2, 0, 0, 8192, 2, 80, "", ""),
        PmemSubmitBio(0, 1, 3, write=False, len=4096),
        IotlbFill(0, 1, 1, ((0, 4096),), (), 3, 2),
        DeviceDma(t=0, io=1, rq=1, write=False, len=8192),
        DmaUnmap(t=0, io=1, rq=1, stale=False, syncs=1, bounced=4096),
        GupUnpin(t=0, io=1, token=1, atomics=1, struct_pages=2),
    ])  # fmt: skip
    assert told == {
        "gup": {"calls": 1, "ptes": 2, "atomics": 3, "struct_pages": 4, "cache_lines": 2, "faults": 1},
        "dio": {"descriptors": 2, "descriptor_bytes": 32, "conversions": 2},
        "fs": {"extents": 1, "zeroed_bytes": 512},
        "block": {"bios": 1, "vectors": 2, "splits": 0, "merges": 1, "requests": 1, "segments": 2},
        "dma": {
            "maps": 2,
            "conversions": 2,
            "struct_pages": 1,
            "descriptor_bytes": 64,
            "iotlb_syncs": 1,
            "ioptes": 2,
            "iotlb_hits": 3,
            "iotlb_misses": 2,
            "bounced_bytes": 8192,
        },
        "driver": {"commands": 2, "prps": 0, "entries": 5, "descriptor_bytes": 144, "copied_bytes": 4096},
        "device": {"transfers": 1, "bytes": 8192},
    }
