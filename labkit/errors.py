"""Every error of the lab, in one tree; each says layer, value and rule, and names its errno.

LabkitError
├── BadInput          what was asked for makes no sense               also a ValueError        exit code 2
│   ├── ScenarioError     a scenario that cannot be built
│   └── TraceError        a file that is not a trace of this version
├── SyscallError      the kernel of the lab refuses: -EINVAL, ...     also an OSError          exit code 2
├── NotAllowed        this machine does not let it happen             also a PermissionError   exit code 3
└── InvariantError    the model broke one of its own rules            also an AssertionError   exit code 1
"""

import errno as _errno
from typing import ClassVar

_NAMES: dict[int, str] = dict(_errno.errorcode) | {_errno.EOPNOTSUPP: "EOPNOTSUPP", _errno.EAGAIN: "EAGAIN"}
"""Where two names have one number, the kernel's."""


class LabkitError(Exception):
    """An error of the lab: `layer` (who speaks), `value` and `rule` (what it saw and what it wants), `errno`."""

    exit_code: ClassVar[int] = 1

    def __init__(self, layer: str, what: str, rule: str, errno: int) -> None:
        """Say that `layer` refuses `what` by `rule`; `errno` is a positive number of the errno module."""
        super().__init__(rule)
        self.layer, self.what, self.rule, self.errno = layer, what, rule, errno
        self.args = (layer, what, rule, errno)  # so that it can be copied and pickled

    def __str__(self) -> str:
        """Return the whole sentence."""
        return f"{self.layer}: {self.what} {self.rule} ({self.errno_name})"

    @property
    def errno_name(self) -> str:
        """The errno as the kernel's users write it: '-EINVAL'."""
        return errno_name(self.errno)


class BadInput(LabkitError, ValueError):
    """What was asked for makes no sense."""

    exit_code = 2


class ScenarioError(BadInput):
    """A scenario that cannot be read, or that describes a machine that cannot be built."""


class TraceError(BadInput):
    """A file that is not a trace, or not one of a version that is known here."""


class SyscallError(LabkitError, OSError):  # type: ignore[misc]  # OSError.errno may be None, here it never is
    """The kernel of the lab refuses a call; `errno` is what a program would find in errno."""

    exit_code = 2


class NotAllowed(LabkitError, PermissionError):  # type: ignore[misc]  # the same
    """This machine does not allow it; the rule names the remedy."""

    exit_code = 3


class InvariantError(LabkitError, AssertionError):
    """The model broke one of its own rules: a defect of the lab, or a hazard that was asked for."""


def errno_name(errno: int) -> str:
    """Return '-EINVAL' for 22, and '-errno N' for a number without a name."""
    return "-" + _NAMES.get(errno, f"errno {errno}")
