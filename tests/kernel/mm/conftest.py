"""A task's memory over a machine of 64 MiB, whose next frames a test may choose."""

from types import SimpleNamespace

import pytest

from labkit.kernel.mm.buddy import Buddy
from labkit.kernel.mm.fault import Mm
from labkit.kernel.mm.folio import Folios
from labkit.kernel.mm.pin import PinLedger


@pytest.fixture(scope="session")
def make_mm():
    """Build an Mm whose next blocks of 2**`order` frames are `pfns`, in this order; its records are in `raw`."""

    def make(*pfns, order=0):
        raw = []
        mm = Mm(Buddy(64 << 20), Folios(), PinLedger(), raw.append, lambda: 5)
        mm.buddy.zones[0].virgin = 8192  # so that frames 4096 to 8191 are the test's to hand out
        mm.buddy.zones[0].pcp[order] = list(reversed(pfns))
        return SimpleNamespace(mm=mm, raw=raw)

    return make


@pytest.fixture(scope="session")
def only_frames():
    """Leave the buddy allocator with these frames and no other."""

    def leave(buddy, *pfns):
        for zone in buddy.zones:
            zone.virgin = zone.end
            zone.pcp = {0: []}
        buddy.zones[0].pcp[0] = list(reversed(pfns))

    return leave
