"""The memory of a capture: no more of it than an IO has."""

import pytest

from labkit.errors import BadInput
from labkit.witness.capture import Capture


@pytest.mark.parametrize(
    ("layout", "rule"),
    [
        ({"before": [[0, 1, 1 << 21]]}, "less than or equal to 1048576"),
        ({"before": [[at << 32, 1, 1 << 19] for at in range(3)]}, "more than 1048576 pages are told of"),
        ({"before": [], "after": [[0, 1, 1 << 20], [1 << 40, 1, 1]]}, "more than 1048576 pages are told of"),
        ({"before": [], "large_folios": [[0, 1 << 19]]}, "less than or equal to 262144"),
        ({"before": [], "large_folios": [[0, 1 << 18]] * 33}, "more than 8388608 frames of large folios are told of"),
        ({"before": [], "large_folios": [[0, 2, [1 << 63]]]}, "is broken at layout.large_folios"),
    ],
)
def test_more_memory_than_any_io_has_is_refused(captured, layout, rule):
    with pytest.raises(BadInput, match=rule):
        Capture.of(captured("01") | {"layout": layout})


def test_flags_are_bits_or_names(captured):
    folio = [512, 2, [22, "ANON"]]
    row = captured("01")
    row["layout"] |= {"large_folios": [folio]}
    assert Capture.of(row).layout.large_folios == [(512, 2, [22, "ANON"])]
