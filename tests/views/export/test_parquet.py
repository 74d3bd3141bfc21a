import io
import sys

import pytest

from labkit.errors import NotAllowed
from labkit.trace.trace import Trace
from labkit.views.export.parquet import to_parquet
from labkit.views.export.table import COLUMNS, columns


def test_without_pyarrow_it_is_one_sentence_with_the_remedy(one, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NotAllowed) as caught:
        to_parquet(one)
    assert str(caught.value) == "parquet: pyarrow is not installed: pip install pyarrow, or export .csv (-ENOPKG)"


def test_a_table_comes_back_from_parquet_as_it_was(one):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for trace in (one, Trace(())):
        table = parquet.read_table(io.BytesIO(to_parquet(trace)))
        assert tuple(table.column_names) == COLUMNS
        assert table.to_pydict() == columns(trace)
        assert {str(table.schema.field(name).type) for name in ("t", "sector", "ret")} == {"int64"}
