import csv
import io
import json

from labkit.trace.events import RECORDS
from labkit.trace.trace import Trace
from labkit.views.export.table import COLUMNS, columns, rows, to_csv


def test_every_trace_has_the_same_columns(one, many):
    names = "n t io record bio rq tag sector nr_sector error addr len nbytes pos ret more".split()  # noqa: SIM905 - as the first line has them
    for trace in (one, many, Trace(())):
        assert next(csv.reader(io.StringIO(to_csv(trace)))) == names == list(COLUMNS)


def test_a_record_can_be_made_again_from_its_row(one):
    table = list(csv.DictReader(io.StringIO(to_csv(one))))
    assert len(table) == len(one)
    for row, rec in zip(table, one.records, strict=True):
        kind = RECORDS[row["record"]]
        fields = {name: int(value) for name, value in row.items() if value and name in kind._fields and name != "more"}
        again = fields | (json.loads(row["more"]) if row["more"] else {})
        assert json.loads(json.dumps(again)) == json.loads(json.dumps(rec._asdict(), default=list))
        assert int(row["n"]) == one.records.index(rec) or rec in one.records[: int(row["n"])]


def test_what_a_record_does_not_tell_is_empty(one):
    row = next(dict(zip(COLUMNS, row, strict=True)) for row in rows(one) if row[3] == "BlockRqIssue")
    assert (row["rq"], row["tag"], row["nr_sector"], row["bio"], row["more"]) == (1, 0, 256, None, "")


def test_columns_are_the_rows_turned(one):
    assert list(zip(*columns(one).values(), strict=True)) == list(rows(one))
    assert columns(Trace(())) == {name: [] for name in COLUMNS}
