"""A task's memory over a machine of 64 MiB, whose next frames a test may choose."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from labkit.kernel.mm.frames.frames import Frames
from labkit.kernel.mm.page_alloc.buddy import Buddy
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.trace.snapshot import translation_runs
from labkit.trace.state import state_at
from labkit.trace.tracer import typed


@pytest.fixture(scope="session")
def make_mm():
    """Build an Mm whose next blocks of 2**`order` frames are `pfns`, in this order; its records are in `raw`."""

    def make(*pfns, order=0):
        raw, every = [], []

        def emit(record):
            raw.append(record)
            every.append(record)

        mm = Mm(Frames(Buddy(64 << 20), emit, lambda: 5))
        mm.frames.buddy.zones[0].virgin = 8192  # so that frames 4096 to 8191 are the test's to hand out
        mm.frames.buddy.zones[0].pcp[order] = list(reversed(pfns))
        return SimpleNamespace(mm=mm, raw=raw, raw_all=every)

    return make


@pytest.fixture(scope="session")
def only_frames():
    """Leave the buddy allocator with these frames and no other."""

    def leave(buddy, *pfns):
        for zone in buddy.zones:
            zone.offline_pages()
        buddy.zones[0].pcp[0] = list(reversed(pfns))

    return leave


@pytest.fixture(scope="session")
def told():
    """Assert that the records tell the memory as it is now: mappings, translations, folios with their counts."""

    def look(space, *others, pins=True):
        mms = (space.mm, *others)
        state = state_at([typed(raw) for raw in space.raw_all], 5)
        live = tuple(space.mm.folios.states())
        if not pins:  # a test counted pins by hand, and no record told of them
            live = tuple(s._replace(refcount=0, pincount=0) for s in live)
            state = replace(state, folios=tuple(s._replace(refcount=0, pincount=0) for s in state.folios))
        assert state.folios == live
        assert state.pages == tuple(run for mm in mms for run in translation_runs(mm.translations(), mm.task))
        vmas = sorted((v.start, v.end - v.start, v.prot, v.name, mm.task) for mm in mms for v in mm.space.vmas)
        assert state.vmas == tuple(vmas)

    return look
