import errno

import pytest

from labkit.kernel.drivers.status import (
    REQUEUE,
    BlkStatus,
    blk_status_requeues,
    blk_status_to_errno,
    errno_to_blk_status,
)


@pytest.mark.parametrize(
    ("name", "number"),
    [("OK", 0), ("NOTSUPP", 95), ("TIMEOUT", 110), ("NOSPC", 28), ("TRANSPORT", 67), ("TARGET", 121),
     ("RESV_CONFLICT", 52), ("MEDIUM", 61), ("PROTECTION", 84), ("RESOURCE", 12), ("DEV_RESOURCE", 16), ("AGAIN", 11),
     ("OFFLINE", 19), ("ZONE_OPEN_RESOURCE", 109), ("ZONE_ACTIVE_RESOURCE", 75), ("DURATION_LIMIT", 62),
     ("INVAL", 22), ("IOERR", 5)],
)  # fmt: skip
def test_a_status_has_one_errno_and_an_errno_one_status(name, number):
    status = BlkStatus[f"BLK_STS_{name}"]
    assert blk_status_to_errno(status) == number
    assert errno_to_blk_status(number) is errno_to_blk_status(-number) is status


def test_all_statuses_are_told_apart():
    assert len(BlkStatus.__members__) == len(list(BlkStatus)) == 18


@pytest.mark.parametrize("error", [errno.EPERM, errno.EFAULT, 9999])
def test_an_errno_without_a_better_name_is_an_io_error(error):
    assert errno_to_blk_status(error) is BlkStatus.BLK_STS_IOERR


def test_two_statuses_ask_to_be_asked_again():
    assert [status.name for status in REQUEUE] == ["BLK_STS_RESOURCE", "BLK_STS_DEV_RESOURCE"]
    assert [error for error in range(1, 134) if blk_status_requeues(error)] == [errno.ENOMEM, errno.EBUSY]
