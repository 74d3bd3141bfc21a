import copy
import errno
import pickle

import pytest

from labkit.errors import (
    BadInput,
    InvariantError,
    LabkitError,
    NotAllowed,
    ScenarioError,
    SyscallError,
    TraceError,
    errno_name,
)

EVERY = (BadInput, ScenarioError, TraceError, SyscallError, NotAllowed, InvariantError, LabkitError)


@pytest.mark.parametrize("kind", EVERY)
def test_an_error_is_one_sentence_of_layer_value_rule_and_errno(kind):
    bad = kind("pwrite64", "buf=0x7f0000000003", "is not a multiple of 512 (O_DIRECT)", errno.EINVAL)
    assert str(bad) == "pwrite64: buf=0x7f0000000003 is not a multiple of 512 (O_DIRECT) (-EINVAL)"
    assert (bad.layer, bad.what, bad.rule) == ("pwrite64", "buf=0x7f0000000003", "is not a multiple of 512 (O_DIRECT)")
    assert (bad.errno, bad.errno_name) == (22, "-EINVAL")


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda bad: pickle.loads(pickle.dumps(bad))])  # noqa: S301 - just written
def test_an_error_survives_a_copy_and_a_pickle(kind, twin):
    other = twin(kind("mm", "addr=0x0", "is not mapped", errno.EFAULT))
    assert type(other) is kind
    assert str(other) == "mm: addr=0x0 is not mapped (-EFAULT)"
    assert (other.layer, other.what, other.rule, other.errno) == ("mm", "addr=0x0", "is not mapped", 14)


@pytest.mark.parametrize(
    ("kind", "builtin", "code"),
    [
        (BadInput, ValueError, 2),
        (ScenarioError, ValueError, 2),
        (TraceError, ValueError, 2),
        (SyscallError, OSError, 2),
        (NotAllowed, PermissionError, 3),
        (InvariantError, AssertionError, 1),
        (LabkitError, Exception, 1),
    ],
)
def test_an_error_is_a_builtin_too_and_knows_its_exit_code(kind, builtin, code):
    bad = kind("layer", "value", "rule", errno.EINVAL)
    assert isinstance(bad, builtin)
    assert isinstance(bad, LabkitError)
    assert bad.exit_code == code


def test_a_caller_may_ask_oserror_for_its_errno():
    with pytest.raises(OSError, match="rule") as caught:
        raise SyscallError("layer", "value", "rule", errno.ENOSPC)
    assert caught.value.errno == errno.ENOSPC


def test_an_errno_without_a_name_is_a_number():
    assert errno_name(22) == "-EINVAL"
    assert errno_name(9999) == "-errno 9999"
