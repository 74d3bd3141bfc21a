import pytest

from labkit.errors import SyscallError
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.fs.ops import Iocb
from labkit.kernel.syscall.flags import iocb_flags, may_be_atomic, open_flags

ATOMIC = QueueLimits(atomic_write_unit_min=512, atomic_write_unit_max=8192)


@pytest.mark.parametrize(
    ("text", "modes", "direct", "flags"),
    [
        ("O_RDWR|O_DIRECT", {"O_RDWR"}, True, Iocb(0)),
        (" O_RDONLY | O_DIRECT ", {"O_RDONLY"}, True, Iocb(0)),
        ("O_WRONLY|O_DSYNC", {"O_WRONLY"}, False, Iocb.DSYNC),
        ("O_RDWR|O_SYNC|O_APPEND", {"O_RDWR"}, False, Iocb.DSYNC | Iocb.SYNC | Iocb.APPEND),
    ],
)
def test_the_words_of_open(text, modes, direct, flags):
    assert open_flags(text) == (modes, direct, flags)


@pytest.mark.parametrize("text", ["", "O_DIRECT", "O_RDWR|O_RDONLY", "O_RDWR|O_TRUNC", "rw"])
def test_open_takes_one_mode_and_no_word_that_nobody_knows(text):
    with pytest.raises(SyscallError) as caught:
        open_flags(text)
    assert str(caught.value) == (
        f"open: flags={text!r} is not one of O_RDONLY, O_RDWR, O_WRONLY, "
        "with O_DIRECT, O_DSYNC, O_SYNC, O_APPEND or none of them (-EINVAL)"
    )


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("", Iocb(0)),
        ("RWF_NOWAIT", Iocb.NOWAIT),
        ("RWF_SYNC", Iocb.SYNC | Iocb.DSYNC),
        ("RWF_DSYNC|RWF_ATOMIC", Iocb.DSYNC | Iocb.ATOMIC),
        ("RWF_HIPRI | RWF_APPEND|RWF_DONTCACHE", Iocb.HIPRI | Iocb.APPEND | Iocb.DONTCACHE),
    ],
)
def test_the_words_of_one_call(text, flags):
    assert iocb_flags("preadv2", text) == flags


def test_rwf_noappend_takes_the_position_though_the_file_is_open_for_appending():
    assert iocb_flags("pwritev2", "RWF_NOAPPEND|RWF_DSYNC", Iocb.APPEND | Iocb.SYNC) == Iocb.SYNC | Iocb.DSYNC
    assert iocb_flags("pwritev2", "", Iocb.APPEND) == Iocb.APPEND
    with pytest.raises(SyscallError, match="asks for both, RWF_APPEND and RWF_NOAPPEND"):
        iocb_flags("pwritev2", "RWF_APPEND|RWF_NOAPPEND")


def test_rwf_dontcache_is_refused_where_folios_would_stay():
    assert iocb_flags("preadv2", "RWF_DONTCACHE", direct=True) == Iocb.DONTCACHE
    with pytest.raises(SyscallError) as caught:
        iocb_flags("preadv2", "RWF_DONTCACHE", direct=False)
    assert str(caught.value) == "preadv2: RWF_DONTCACHE is not there in the page cache of this lab (-EOPNOTSUPP)"


def test_a_word_that_nobody_knows_is_not_supported():
    with pytest.raises(SyscallError, match="EOPNOTSUPP"):
        iocb_flags("preadv2", "RWF_NOWAIT|RWF_COFFEE")


@pytest.mark.parametrize(
    ("pos", "nbytes", "limits", "direct", "error"),
    [
        (0, 4096, ATOMIC, False, "-EOPNOTSUPP"),
        (0, 4096, QueueLimits(), True, "-EOPNOTSUPP"),
        (0, 1536, ATOMIC, True, "-EINVAL"),
        (0, 256, ATOMIC, True, "-EINVAL"),
        (0, 16384, ATOMIC, True, "-EINVAL"),
        (2048, 4096, ATOMIC, True, "-EINVAL"),
        (4096, 4096, ATOMIC, True, None),
        (0, 8192, ATOMIC, True, None),
    ],
)
def test_what_can_be_an_atomic_write(pos, nbytes, limits, direct, error):
    if error is None:
        may_be_atomic("pwritev2", pos, nbytes, limits, direct=direct)
        return
    with pytest.raises(SyscallError) as caught:
        may_be_atomic("pwritev2", pos, nbytes, limits, direct=direct)
    assert caught.value.errno_name == error
