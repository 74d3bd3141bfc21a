import pytest

from labkit.kernel.drivers.nvme.status import nvme_error_status
from labkit.kernel.drivers.status import blk_status_to_errno


@pytest.mark.parametrize(
    ("status", "name", "error"),
    [
        (0x000, "BLK_STS_OK", 0), (0x001, "BLK_STS_NOTSUPP", 95), (0x002, "BLK_STS_NOTSUPP", 95),
        (0x004, "BLK_STS_IOERR", 5), (0x007, "BLK_STS_IOERR", 5), (0x013, "BLK_STS_IOERR", 5),
        (0x080, "BLK_STS_TARGET", 121), (0x081, "BLK_STS_NOSPC", 28), (0x083, "BLK_STS_RESV_CONFLICT", 52),
        (0x182, "BLK_STS_MEDIUM", 61), (0x280, "BLK_STS_MEDIUM", 61), (0x281, "BLK_STS_MEDIUM", 61),
        (0x282, "BLK_STS_PROTECTION", 84), (0x370, "BLK_STS_TRANSPORT", 67), (0x371, "BLK_STS_IOERR", 5),
        (0x4281, "BLK_STS_MEDIUM", 61), (-1, "BLK_STS_IOERR", 5),
    ],
)  # fmt: skip
def test_a_status_has_one_block_status_and_one_errno(status, name, error):
    assert nvme_error_status(status).name == name
    assert blk_status_to_errno(nvme_error_status(status)) == error
