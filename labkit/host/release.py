"""Which kernel this is."""

import os


def kernel_version() -> str:
    """Return the version of the running kernel, such as '6.18.44', without what its builder adds."""
    return os.uname().release.partition("-")[0].partition("+")[0]
