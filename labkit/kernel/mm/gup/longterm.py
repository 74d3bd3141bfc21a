"""Memory that is pinned for the long term leaves ZONE_MOVABLE first (MM-21).

Source: mm/gup.c, check_and_migrate_movable_pages.
"""

from collections.abc import Sequence

from labkit.kernel.mm.fault.migrate import migrate_longterm
from labkit.kernel.mm.space.mm_struct import Mm
from labkit.scatter.payload import Range


def leave_movable(mm: Mm, runs: Sequence[Range], mms: Sequence[Mm] = ()) -> bool:
    """Move what of `runs` (physical) lies in ZONE_MOVABLE out of it; return whether anything moved: look again then.

    `mms`: all address spaces that may map it, `mm` alone where none are given. Raises SyscallError EAGAIN for what is
    held, or mapped elsewhere too, EBUSY for what stays where it is, ENOMEM.
    """
    if not any(zone.name == "Movable" for zone in mm.frames.buddy.zones):
        return False
    done = migrate_longterm(mm.frames, mms or (mm,), runs)
    if done.error is not None:
        raise done.error
    return bool(done.moved)
