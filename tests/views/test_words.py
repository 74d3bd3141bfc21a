import pytest

from labkit.views.words import address, capital, count, errno_name, errno_sentence


def test_addresses_are_in_groups_of_four():
    assert address(0x1_4022_0000) == "0x1_4022_0000"


@pytest.mark.parametrize(
    ("n", "text"), [(0, "no phyrs"), (1, "one phyr"), (7, "seven phyrs"), (10, "ten phyrs"), (1241, "1,241 phyrs")]
)
def test_small_counts_are_words(n, text):
    assert count(n, "phyr") == text


def test_a_plural_may_be_given():
    assert count(2, "entry", "entries") == "two entries"


def test_errors_have_names_and_sentences():
    assert (errno_name(-14), errno_name(-4000)) == ("-EFAULT", "-errno 4000")
    assert errno_sentence(-14) == "an address of the buffer is not mapped, or does not allow this access"
    assert errno_sentence(-4000) == "the call was refused"


def test_only_the_first_letter_changes():
    assert (capital("io at 0xFF"), capital("")) == ("Io at 0xFF", "")
