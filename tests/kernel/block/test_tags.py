import pytest

from labkit.hardware.clock import Clock
from labkit.kernel.block.tags import Tags


class Killed(Exception):
    pass


def asker(tags, got, name, hold=0):
    tag = yield from tags.get()
    got.append((name, tag, int(tags._env.now)))
    yield hold
    tags.put(tag)


def test_tags_go_out_lowest_first_and_none_is_given_twice():
    tags = Tags(Clock(), 3)
    assert [tags.take() for _ in range(4)] == [0, 1, 2, None]
    tags.put(1)
    assert (tags.take(), tags.take()) == (1, None)


def test_whoever_waits_longest_is_served_first():
    clock, got = Clock(), []
    tags = Tags(clock, 1)
    for name in "abcd":
        clock.job(asker(tags, got, name, hold=10))
    clock.run()
    assert got == [("a", 0, 0), ("b", 0, 10), ("c", 0, 20), ("d", 0, 30)]
    assert (tags.free, tags.waiting) == (1, 0)


def test_nobody_who_comes_later_takes_the_tag_of_one_who_waits():
    clock, got = Clock(), []
    tags = Tags(clock, 1)
    held = tags.take()
    clock.job(asker(tags, got, "patient"))
    clock.run()
    tags.put(held)
    assert tags.take() is None
    clock.run()
    assert got == [("patient", 0, 0)]


@pytest.mark.parametrize("handed", [False, True])
def test_one_who_dies_while_he_waits_leaves_his_place_and_his_tag_to_the_next(handed):
    clock, got = Clock(), []
    tags = Tags(clock, 1)
    held = tags.take()
    dying = tags.get()
    next(dying)
    clock.job(asker(tags, got, "next"))
    clock.run()
    if handed:
        tags.put(held)
    with pytest.raises(Killed):
        dying.throw(Killed())
    if not handed:
        tags.put(held)
    clock.run()
    assert got == [("next", 0, 0)]
    assert (tags.free, tags.waiting) == (1, 0)
