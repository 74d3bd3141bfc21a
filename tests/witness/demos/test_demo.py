import errno
import json
from dataclasses import replace

import pytest

from labkit.errors import BadInput, InvariantError, NotAllowed, SyscallError
from labkit.witness.demos.demo import Demo, Seen, load, said

SEEN = Seen({"a read": 4096, "a write": "-EFAULT"}, ("asked", "said"), [["a read", 4096], ["a write", "-EFAULT"]])
DEMO = Demo("one", "One", "What?", "Nothing.", "So.", lambda: SEEN, lambda: {"a read": 4096})


def refused(error):
    def kernel():
        raise error

    return replace(DEMO, kernel=kernel)


def test_what_happens_now_is_said_to_be_of_now():
    shown = DEMO.show()
    assert shown.seen == SEEN
    assert shown.recorded is None
    assert shown.line == "Asked just now: the kernel under your feet."


def test_a_recording_is_what_was_seen_a_row_a_line(tmp_path):
    path = DEMO.record(tmp_path, "6.18.44")
    assert path == tmp_path / "one.json"
    assert '\n  ["a write", "-EFAULT"]\n' in path.read_text()
    shown = DEMO.replay(tmp_path)
    assert shown.seen == SEEN
    assert shown.recorded["kernel"] == "6.18.44"
    assert set(shown.recorded) == {"date", "kernel"}


@pytest.mark.parametrize("error", [NotAllowed, SyscallError])
def test_where_nobody_may_ask_the_recording_is_shown_with_the_reason(tmp_path, error):
    DEMO.record(tmp_path, "6.18.44")
    shown = refused(error("gup", "this", "is not to be had: run as root", errno.EPERM)).show(tmp_path)
    assert shown.seen == SEEN
    assert shown.line.startswith("gup: this is not to be had: run as root (-EPERM). Shown instead: a recording of 20")
    assert shown.line.endswith(", Linux 6.18.44.")


def test_a_recording_that_nobody_had_to_ask_for_gives_no_reason(tmp_path):
    DEMO.record(tmp_path, "6.18.44")
    assert DEMO.replay(tmp_path).line.startswith("A recording of 20")


def test_a_defect_of_the_lab_is_not_hidden_behind_a_recording(tmp_path):
    DEMO.record(tmp_path, "6.18.44")
    with pytest.raises(InvariantError):
        refused(InvariantError("lab", "this", "is broken", errno.EIO)).show(tmp_path)


def test_the_model_is_held_to_what_it_speaks_of():
    assert DEMO.show().agree
    assert replace(DEMO, model=lambda: {"a stat": 0}).show().agree
    shown = replace(DEMO, model=lambda: {"a read": 4096, "a write": 512}).show()
    assert shown.differences == ("a write",)
    assert not shown.agree


def test_all_of_it_is_plain_values(tmp_path):
    DEMO.record(tmp_path, "6.18.44")
    told = json.loads(json.dumps(DEMO.replay(tmp_path, "so").as_dict()))
    assert told["live"] is False
    assert told["recorded"]["kernel"] == "6.18.44"
    assert told["kernel"] == {"a read": 4096, "a write": "-EFAULT"}
    assert told["model"] == {"a read": 4096}
    assert told["agree"] is True
    assert told["rows"] == [["a read", 4096], ["a write", "-EFAULT"]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "is no JSON"),
        ("[]", "is no recording of the format labkit-demo-1"),
        ('{"format": "labkit-demo-1", "answers": {}, "columns": [], "rows": 1, "recorded": {}}', "is no recording"),
        ('{"format": "labkit-trace-1"}', "is no recording"),
    ],
)
def test_what_is_no_recording_is_refused_in_a_sentence(tmp_path, text, why):
    path = tmp_path / "one.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=f"demo: one.json {why}"):
        load(path)


def test_a_call_says_bytes_or_the_name_of_its_errno():
    assert said(4096) == 4096
    assert said(0) == 0
    assert said(-14) == "-EFAULT"
