"""none (ours, the control group): nothing is counted, and nothing is kept from happening."""

from collections.abc import Mapping

from labkit.kernel.mm.pin.ops import Cost, Event, Memory
from labkit.scatter.phyr import Phyrs

_NOTHING: Mapping[Event, str] = {}


class NonePolicy:
    """What happens to memory that a device uses unprotected: that is what it is for."""

    name, label, blocks = "none", "ours", _NOTHING

    def pin(self, mm: Memory, phyrs: Phyrs) -> Cost:  # noqa: ARG002 - the protocol's
        """Do nothing."""
        return Cost(0, 0, 0, 0)

    def unpin(self, mm: Memory, phyrs: Phyrs) -> Cost:  # noqa: ARG002 - the same
        """Do nothing."""
        return Cost(0, 0, 0, 0)


NONE = NonePolicy()
