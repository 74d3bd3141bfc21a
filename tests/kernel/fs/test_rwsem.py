"""Tasks that take one lock, and what each of them sees."""

import pytest

from labkit.hardware.clock import Clock
from labkit.kernel.fs.rwsem import InodeLock


class World:
    """One lock, and a story of who has it."""

    def __init__(self):
        self.env, self.lock, self.story = Clock(), InodeLock(), []

    def hold(self, name, *, shared, ns=10, after=0):
        def work():
            yield after
            yield from self.lock.down(self.env, shared=shared)
            self.story.append(f"+{name} {self.env.now}")
            yield ns
            self.story.append(f"-{name} {self.env.now}")
            self.lock.up()

        return self.env.job(work())


def test_readers_are_in_it_together_and_a_writer_is_alone():
    world = World()
    world.hold("a", shared=True)
    world.hold("b", shared=True, after=3)
    world.hold("w", shared=False, after=5)
    world.env.run()
    assert world.story == ["+a 0", "+b 3", "-a 10", "-b 13", "+w 13", "-w 23"]
    assert not world.lock.busy


def test_a_reader_who_comes_after_a_waiting_writer_waits_behind_it():
    world = World()
    world.hold("a", shared=True)
    world.hold("w", shared=False, after=1)
    world.hold("b", shared=True, after=2)
    world.hold("c", shared=True, after=3)
    world.env.run()
    assert world.story == ["+a 0", "-a 10", "+w 10", "-w 20", "+b 20", "+c 20", "-b 30", "-c 30"]


def test_trylock_never_waits_and_never_overtakes():
    lock = InodeLock()
    assert lock.trylock(shared=True)
    assert lock.trylock(shared=True)
    assert not lock.trylock(shared=False)
    lock.up()
    lock.up()
    assert lock.trylock(shared=False)
    assert not lock.trylock(shared=True)
    lock.up()
    assert not lock.busy


@pytest.mark.parametrize("granted", [False, True])
def test_who_dies_while_it_waits_leaves_the_lock_to_the_next(granted):
    env, lock = Clock(), InodeLock()
    assert lock.trylock(shared=True)
    waiting = lock.down(env, shared=False)
    next(waiting)
    if granted:
        lock.up()
        assert lock.held == -1
    waiting.close()
    assert lock.trylock(shared=True)
    assert lock.held == (1 if granted else 2)


def test_who_waits_for_direct_io_goes_on_with_the_end_of_the_last():
    env, lock, story = Clock(), InodeLock(), []

    def work():
        yield from lock.dio_wait(env)
        story.append(env.now)

    lock.dio_begin()
    lock.dio_begin()
    env.later(5, lock.dio_end)
    env.later(9, lock.dio_end)
    env.job(work())
    env.run()
    assert story == [9]
    assert not lock.busy


def test_who_dies_while_it_waits_for_direct_io_is_not_woken():
    env, lock = Clock(), InodeLock()
    lock.dio_begin()
    waiting = lock.dio_wait(env)
    next(waiting)
    waiting.close()
    lock.dio_end()
    env.run()
    assert not lock.busy
