"""The traces of tests/views/traces.py as a fixture."""

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("traces", Path(__file__).parents[1] / "views" / "traces.py")
_TRACES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_TRACES)


@pytest.fixture(scope="session")
def traces():
    return _TRACES
