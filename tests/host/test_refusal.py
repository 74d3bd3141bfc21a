import errno

import pytest

from labkit.errors import NotAllowed, SyscallError
from labkit.host.refusal import refused, speaking


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EPERM, "disk: it needs root: run as root (-EPERM)"),
        (errno.EACCES, "disk: it needs root: run as root (-EACCES)"),
        (errno.EROFS, "disk: it is read-only here: run outside the container, or in a privileged one (-EROFS)"),
        (errno.ENOSPC, "disk: it has no room left: free some, or set TMPDIR to another directory (-ENOSPC)"),
        (errno.EBUSY, "disk: it is in use: end what uses it (-EBUSY)"),
    ],
)
def test_what_the_machine_does_not_allow_names_its_remedy(number, sentence):
    bad = refused("disk", "it", OSError(number, "no"))
    assert (type(bad), str(bad), bad.exit_code) == (NotAllowed, sentence, 3)


def test_the_rest_names_its_errno():
    bad = refused("disk", "it", OSError(errno.EINVAL, "no"))
    assert (type(bad), str(bad)) == (SyscallError, "disk: it fails: Invalid argument (-EINVAL)")
    assert refused("disk", "it", OSError("no number")).errno == errno.EIO


def test_a_remedy_of_ones_own_comes_first():
    bad = refused("disk", "it", OSError(errno.ENODEV, "no"), {errno.ENODEV: "is gone: make it"})
    assert (type(bad), str(bad)) == (NotAllowed, "disk: it is gone: make it (-ENODEV)")


def test_an_error_becomes_a_sentence_and_a_sentence_stays_one():
    with pytest.raises(NotAllowed, match=r"disk: it has no room left: .* \(-ENOSPC\)"), speaking("disk", "it"):
        raise OSError(errno.ENOSPC, "no")
    first = SyscallError("loop", "that", "fails", errno.EIO)
    with pytest.raises(SyscallError) as caught, speaking("disk", "it"):
        raise first
    assert caught.value is first
    with pytest.raises(KeyError), speaking("disk", "it"):
        raise KeyError
