"""A link is data from elsewhere: what went in comes out, and whatever else arrives is refused in one sentence."""

import base64
import json
import tracemalloc
import zlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import ScenarioError
from labkit.scenario import Scenario
from labkit.scenario.link import MOST_BYTES, MOST_CHARS, MOST_SELECTED, Link, pack, unpack


def wrapped(data, scheme="labkit:1:"):
    return scheme + base64.urlsafe_b64encode(zlib.compress(data, 9)).decode().rstrip("=")


def refusal(text):
    with pytest.raises(ScenarioError) as caught:
        Scenario.of_link(text)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 300
    assert sentence.isprintable()
    return sentence


def test_a_link_is_a_short_line_that_names_its_version():
    assert Scenario().link() == "labkit:1:eNqrrgUAAXUA-Q"
    assert unpack("labkit:1:eNqrrgUAAXUA-Q") == Link({}, None, ())


def test_a_link_holds_only_what_differs_from_the_defaults():
    link = Scenario.of({"size": "64 KiB", "seed": 1}).link(90000, [3, 4, 5, 9])
    assert unpack(link) == Link({"size": 65536}, 90000, (3, 4, 5, 9))
    assert Scenario.of_link(link) == Scenario.of({"size": "64 KiB"})


@pytest.mark.parametrize(
    "values",
    [
        {"hazard": "truncate"},
        {"hazard": "truncate", "folio": "4KiB"},
        {"hazard": "unplug", "folio": "gpu"},
        {"dma": "swiotlb"},
        {"dma": "direct", "iommu": "off"},
        {"dma": "iommu"},
        {"iommu": "off"},
        {"faults": ("media-error@DeviceStart",), "limits": {"max_segments": 4}, "profile": {"read_ns": 20000.5}},
    ],
)
def test_a_scenario_that_settles_some_of_itself_survives_a_link(values):
    scenario = Scenario.of(values)
    assert Scenario.of_link(scenario.link()) == scenario


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "system": st.sampled_from(["phyr", "page", "unified", "premapped"]),
            "size": st.integers(1, 1 << 30),
            "offset": st.integers(0, 1 << 62),
            "fragmentation": st.floats(0, 1),
            "seed": st.integers(0, (1 << 63) - 1),
            "flags": st.text(max_size=80).filter(lambda text: "RWF_APPEND" not in text),
            "limits": st.dictionaries(st.text(max_size=12), st.integers(-(1 << 40), 1 << 40), max_size=8),
            "hazard": st.sampled_from([None, "fork", "truncate", "unplug"]),
            "dma": st.sampled_from([None, "direct", "swiotlb", "xen"]),
        },
    ),
    st.none() | st.integers(0, (1 << 63) - 1),
    st.sets(st.integers(0, 1 << 20), max_size=40),
)
def test_what_goes_into_a_link_comes_out_of_it(values, t, selection):
    scenario = Scenario.of(values)
    text = scenario.link(t, selection)
    assert len(text) <= MOST_CHARS
    assert text.isascii()
    assert Scenario.of_link(text) == scenario
    assert unpack(text)[1:] == (t, tuple(sorted(selection)))


@given(st.text(max_size=200) | st.text(max_size=200).map(lambda text: f"labkit:1:{text}"))
def test_no_text_makes_more_than_a_sentence(text):
    try:
        unpack(text)
    except ScenarioError as bad:
        assert str(bad).startswith("link: ")  # noqa: PT017 - a text may be a link, by a small chance


@given(st.binary(max_size=300))
def test_no_bytes_make_more_than_a_sentence(data):
    try:
        Scenario.of_link(wrapped(data))
    except ScenarioError as bad:
        assert bad.errno_name in {"-EINVAL", "-E2BIG"}  # noqa: PT017 - the same


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ([], "link: the text is not a table of names and values (-EINVAL)"),
        ({"run": "rm"}, "link: 'run' is not one of s, sel, t (-EINVAL)"),
        ({"s": [1]}, "link: s is not a table of names and values (-EINVAL)"),
        ({"t": -1}, "link: t=-1 is not a time in ns (-EINVAL)"),
        ({"t": True}, "link: t=True is not a time in ns (-EINVAL)"),
        ({"t": 1.5}, "link: t=1.5 is not a time in ns (-EINVAL)"),
        ({"sel": [[0]]}, "link: sel=[[0]] is not a list of [first, how many] (-EINVAL)"),
        ({"sel": "x"}, "link: sel='x' is not a list of [first, how many] (-EINVAL)"),
        ({"sel": [[0, 4000000000]]}, "link: sel selects more than 4,096 (-E2BIG)"),
        ({"s": {"colour": 1}}, "scenario: colour='1': extra inputs are not permitted (-EINVAL)"),
        ({"s": {"\x1b[2J": 1}}, "scenario: '\\x1b[2J'='1': extra inputs are not permitted (-EINVAL)"),
        ({"s": {"version": 2}}, "scenario: version='2': input should be 1 (-EINVAL)"),
    ],
)
def test_a_link_that_says_something_else_is_refused(told, sentence):
    assert refusal(wrapped(json.dumps(told).encode())) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "link: '' is not labkit:1: and what follows it (-EINVAL)"),
        ("labkit:1:", "link: 'labkit:1:' is not labkit:1: and what follows it (-EINVAL)"),
        (
            "https://example.org/x",
            "link: 'https://example.org/x' is not labkit:1: and what follows it (-EINVAL)",
        ),
        ("labkit:2:eNqrrgUAAXUA-Q", "link: version '2' is not 1, which is known here (-EPROTONOSUPPORT)"),
        ("labkit:1:eNqrrgUAAXUA", "link: 'eNqrrgUAAXUA' was cut or changed on its way (-EINVAL)"),
        ("labkit:1:<script>", "link: '<script>' was cut or changed on its way (-EINVAL)"),
        ("labkit:1:" + "A" * 2000, "link: 2,009 characters are more than 2,000 (-E2BIG)"),
        (wrapped(b"{}" + b" " * MOST_BYTES), "link: the text grows to more than 16,384 bytes (-E2BIG)"),
        (wrapped(b"\xff\xfe"), "link: the text is not JSON (-EINVAL)"),
        (wrapped(b'{"s":{"fragmentation":NaN}}'), "link: the text is not JSON (-EINVAL)"),
        (wrapped(b"[" * 16000), "link: the text is not JSON (-EINVAL)"),
    ],
)
def test_what_is_no_link_is_refused(text, sentence):
    assert refusal(text) == sentence


def test_a_bomb_is_never_inflated():
    text = wrapped(bytes(1 << 20))
    assert len(text) < MOST_CHARS  # a mebibyte, a thousand times smaller
    tracemalloc.start()
    assert refusal(text) == "link: the text grows to more than 16,384 bytes (-E2BIG)"
    assert tracemalloc.get_traced_memory()[1] < 1 << 18
    tracemalloc.stop()


def test_bytes_behind_the_end_of_a_link_are_refused():
    body = base64.urlsafe_b64encode(zlib.compress(b"{}") + b"more").decode()
    assert refusal(f"labkit:1:{body}").endswith("was cut or changed on its way (-EINVAL)")


def test_what_a_link_cannot_hold_is_refused_when_it_is_made():
    noise = tuple(sha256(bytes([i])).hexdigest() * 3 for i in range(8))
    with pytest.raises(ScenarioError, match=r"characters are more than 2,000: keep the scenario in a file \(-E2BIG\)"):
        Scenario.of({"faults": noise}).link(selection=[i * i for i in range(1000)])
    with pytest.raises(ScenarioError, match=r"link: sel selects more than 4,096 \(-E2BIG\)"):
        Scenario().link(selection=range(MOST_SELECTED + 1))
    with pytest.raises(ScenarioError, match=r"link: t=-1 is not a time in ns \(-EINVAL\)"):
        pack(Link({}, -1))


def test_a_link_is_read_whatever_spaces_are_around_it():
    assert Scenario.of_link("  labkit:1:eNqrrgUAAXUA-Q\n") == Scenario()
