"""What the kernel refuses becomes a sentence: what this machine does not allow names its remedy, the rest its errno."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from labkit.errors import LabkitError, NotAllowed, SyscallError

_ROOT = "needs root: run as root"
_REMEDIES = {
    errno.EPERM: _ROOT,
    errno.EACCES: _ROOT,
    errno.EROFS: "is read-only here: run outside the container, or in a privileged one",
    errno.ENOSPC: "has no room left: free some, or set TMPDIR to another directory",
    errno.EDQUOT: "is beyond the quota of this user: free some, or set TMPDIR to another directory",
    errno.EBUSY: "is in use: end what uses it",
}


@contextmanager
def speaking(layer: str, what: str, remedies: Mapping[int, str] = _REMEDIES) -> Iterator[None]:
    """Turn an OSError within it into the sentence that `refused` returns; one that is a sentence already stays."""
    try:
        yield
    except LabkitError:
        raise
    except OSError as error:
        raise refused(layer, what, error, remedies) from error


def refused(layer: str, what: str, error: OSError, remedies: Mapping[int, str] = _REMEDIES) -> LabkitError:
    """Return `error` of `what` as a sentence: NotAllowed where `remedies`, or the common ones, know its errno."""
    number = error.errno or errno.EIO
    rule = remedies.get(number) or _REMEDIES.get(number)
    if rule is None:
        return SyscallError(layer, what, f"fails: {os.strerror(number)}", number)
    return NotAllowed(layer, what, rule, number)
