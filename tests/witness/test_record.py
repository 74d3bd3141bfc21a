import errno
import socket
import tomllib

import pytest

from labkit.errors import NotAllowed
from labkit.trace.events import LoRwAio, SysExit
from labkit.trace.store import load
from labkit.witness.demos import DEMOS
from labkit.witness.manifest import NAME
from labkit.witness.record import RECORDINGS, record

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """All that there is to record, recorded."""
    directory = tmp_path_factory.mktemp("recorded")
    try:
        return directory, record(directory)
    except NotAllowed as no:
        if no.errno != errno.EAGAIN:
            raise
        pytest.skip(f"the memory of this machine does not let it be shown just now: {no}")


def test_a_recording_is_a_measured_run_that_says_when_and_on_which_kernel(recorded):
    trace = load(recorded[0] / "first-io-loop.json.gz")
    assert trace.of(SysExit)[0].ret == 65536
    assert trace.of(LoRwAio)
    assert trace.meta["device"]["clock"] == "measured"
    assert set(trace.meta["recorded"]) == {"date", "kernel"}
    assert set(RECORDINGS) == {"first-io-loop"}


def test_every_demonstration_is_recorded_and_the_manifest_tells_of_it(recorded):
    directory, paths = recorded
    assert [path.name for path in paths] == ["first-io-loop.json.gz", *(f"{name}.json" for name in DEMOS), NAME]
    told = tomllib.loads((directory / NAME).read_text())
    assert set(told) == {path.name for path in paths} - {NAME}
    assert all(demo.replay(directory).agree for demo in DEMOS.values())


def test_the_name_of_the_machine_is_not_in_it(recorded):
    directory, paths = recorded
    assert f'"{socket.gethostname()}"' not in str(load(directory / "first-io-loop.json.gz").meta)
    assert not [path for path in paths[1:] if f'"{socket.gethostname()}"' in path.read_text()]
