"""What the tests of the tracer share: the recorded sub-buffers, and a machine on which something may be recorded."""

import base64
import json
from pathlib import Path

import pytest

from labkit.errors import NotAllowed
from labkit.host.calls import mounts
from labkit.host.undo import Undo


@pytest.fixture(scope="session")
def recorded():
    """Real sub-buffers, with the formats, the kernel's own text, and the events in them; see its `origin`."""
    told = json.loads((Path(__file__).parents[1] / "data" / "sub_buffers.json").read_text())
    told["pages"] = [(cpu, base64.b64decode(page).ljust(told["nbytes"], b"\0")) for cpu, page in told["pages"]]
    return told


@pytest.fixture
def undo():
    """An Undo where this machine lets a trace instance be made; what it made is gone when the test ends."""
    with Undo() as change:
        try:
            mounts.tracefs()
        except NotAllowed as no:
            pytest.skip(str(no))
        yield change
