"""Every policy by its name."""

from labkit.kernel.mm.pin.folio import FOLIO
from labkit.kernel.mm.pin.lease import LEASE
from labkit.kernel.mm.pin.none import NONE
from labkit.kernel.mm.pin.ops import PinPolicy
from labkit.kernel.mm.pin.page import PAGE
from labkit.kernel.mm.pin.range import RANGE

POLICIES: dict[str, PinPolicy] = {policy.name: policy for policy in (PAGE, FOLIO, RANGE, LEASE, NONE)}
