"""A demonstration on the kernel of this machine, or a skip that says why there is none."""

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.calls.ring import Ring
from labkit.host.disk.scratch import Scratch
from labkit.witness.demos.demo import Shown


@pytest.fixture
def live():
    """Ask the kernel now; where it may not be asked, skip with the reason."""

    def ask(demo):
        try:
            return Shown(demo, demo.kernel(), demo.model())
        except (NotAllowed, SyscallError) as no:
            pytest.skip(str(no))

    return ask


@pytest.fixture
def able():
    """Skip, with the reason, where there is no direct IO or no ring."""
    try:
        Scratch(4096).close()
        Ring(1).close()
    except (NotAllowed, SyscallError) as no:
        pytest.skip(str(no))
