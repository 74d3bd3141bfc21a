from dataclasses import fields

import pytest

from labkit.errors import BadInput
from labkit.hardware.cpu import Cpu
from labkit.machine import DATA

GOOD = {field.name: f'[{field.name}]\nns = 5\norigin = "estimated"\n' for field in fields(Cpu)}


def load(path, **changes):
    path.write_text("".join((GOOD | changes).values()))
    return Cpu.load(path)


def test_a_table_is_a_number_with_an_origin_for_each_piece_of_work(tmp_path):
    cpu = load(tmp_path / "cpu.toml", pin='[pin]\nns = 15\norigin = "measured"\n')
    assert (cpu.pin, cpu.walk) == (15, 5)


def test_the_table_of_the_lab_is_one():
    cpu = Cpu.load(DATA / "cpu.toml")
    assert (cpu.syscall, cpu.walk, cpu.pin, cpu.unpin, cpu.iotlb_sync) == (120, 5, 15, 11, 700)


@pytest.mark.parametrize(
    "row",
    [
        "",
        '[pin]\norigin = "measured"\n',
        "[pin]\nns = 15\n",
        '[pin]\nns = 15\norigin = ""\n',
        '[pin]\nns = -1\norigin = "measured"\n',
        '[pin]\nns = 1.5\norigin = "measured"\n',
        '[pin]\nns = "15"\norigin = "measured"\n',
        '[pin]\nns = true\norigin = "measured"\n',
        '[[pin]]\nns = 15\norigin = "measured"\n',
    ],
)
def test_a_number_that_is_missing_negative_or_without_an_origin_is_refused(tmp_path, row):
    with pytest.raises(BadInput) as caught:
        load(tmp_path / "cpu.toml", pin=row)
    assert str(caught.value) == "hardware: cpu.toml: pin needs ns as int >= 0, and an origin (-EINVAL)"
