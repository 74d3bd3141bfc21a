"""A trace becomes a Parquet file: the columns of table.py, by pyarrow, which is an extra."""

import errno
import io

from labkit.errors import NotAllowed
from labkit.trace.trace import Trace
from labkit.views.export.table import NUMBERS, columns


def to_parquet(trace: Trace) -> bytes:
    """Return `trace` as a Parquet file. Raises NotAllowed where pyarrow is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and large
        from pyarrow import parquet  # noqa: PLC0415 - the same
    except ImportError:
        raise NotAllowed(
            "parquet", "pyarrow", "is not installed: pip install pyarrow, or export .csv", errno.ENOPKG
        ) from None
    table = columns(trace)
    numbers = {"n", "t", "io", *NUMBERS}
    arrays = {name: pa.array(table[name], pa.int64() if name in numbers else pa.string()) for name in table}
    out = io.BytesIO()
    parquet.write_table(pa.table(arrays), out)
    return out.getvalue()
