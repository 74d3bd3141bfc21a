import socket

import pytest

from labkit.trace.events import LoRwAio, SysExit
from labkit.trace.store import load
from labkit.witness.record import RECORDINGS, record

pytestmark = pytest.mark.host


def test_a_recording_is_a_measured_run_that_says_when_and_on_which_kernel(tmp_path):
    (path,) = record(tmp_path)
    trace = load(path)
    assert path.name == "first-io-loop.json.gz"
    assert trace.of(SysExit)[0].ret == 65536
    assert trace.of(LoRwAio)
    assert trace.meta["device"]["clock"] == "measured"
    assert set(trace.meta["recorded"]) == {"date", "kernel"}
    assert set(RECORDINGS) == {"first-io-loop"}


def test_the_name_of_the_machine_is_not_in_it(tmp_path):
    (path,) = record(tmp_path)
    assert f'"{socket.gethostname()}"' not in str(load(path).meta)
