import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simpy import Environment
from simpy.core import EmptySchedule

from labkit.hardware.clock import Clock

DELAYS = st.integers(0, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), DELAYS),
        st.tuples(st.just("later"), DELAYS),
        st.tuples(st.just("timeout"), DELAYS),
        st.tuples(st.just("job"), st.lists(DELAYS, max_size=2)),
        st.tuples(st.just("process"), st.lists(DELAYS, max_size=2)),
        st.tuples(st.just("fire"), st.integers(0, 2)),
        st.tuples(st.just("await"), st.integers(0, 2)),
    ),
    max_size=5,
)


class Stock:
    """The same world of stock SimPy parts alone: whatever the lean clock does is a Timeout with a callback here."""

    def __init__(self):
        self.env = Environment()

    def later(self, delay, call, *args):
        self.env.timeout(delay).callbacks.append(lambda _event: call(*args))

    def job(self, work):
        done = self.env.event()

        def resume(event=None):
            try:
                wait = work.send(event.value if event is not None else None)
            except StopIteration as end:
                done.succeed(end.value)
                return
            if isinstance(wait, int):
                self.later(wait, resume)
            elif wait.callbacks is None:
                self.later(0, resume, wait)
            else:
                wait.callbacks.append(resume)

        self.later(0, resume)
        return done


class Lean:
    def __init__(self):
        self.env = Clock()
        self.later, self.job = self.env.later, self.env.job


def play(world, programs):  # noqa: C901 - one branch for each thing that an actor may do
    """Run `programs`, one actor each, and return who did what when."""
    env, log = world.env, []
    fired = [env.event() for _ in range(3)]

    def nap(name, delays, pause):
        for delay in delays:
            yield pause(delay)
            log.append((env.now, name))

    def actor(me, steps):
        for at, (what, arg) in enumerate(steps):
            name = f"{me}.{at}.{what}"
            log.append((env.now, name))
            if what == "wait":
                yield arg
            elif what == "later":
                world.later(arg, lambda name=name: log.append((env.now, name + "!")))
            elif what == "timeout":
                yield env.timeout(arg)
            elif what == "job":
                yield world.job(nap(name, arg, int))
            elif what == "process":
                yield env.process(nap(name, arg, env.timeout))
            elif what == "fire":
                if not fired[arg].triggered:
                    fired[arg].succeed(arg)
            elif fired[arg].triggered:
                value = yield fired[arg]
                log.append((env.now, name, value))

    for me, steps in enumerate(programs):
        world.job(actor(me, steps))
    env.run()
    return log


@settings(max_examples=400)
@given(st.lists(STEPS, min_size=1, max_size=5))
def test_the_lean_clock_does_the_same_in_the_same_order_as_stock_simpy(programs):
    assert play(Lean(), programs) == play(Stock(), programs)


@given(st.lists(st.lists(DELAYS, max_size=6), min_size=1, max_size=5))
def test_jobs_that_only_wait_run_as_processes_do(programs):
    def run(env, start, pause):
        log = []

        def actor(me, delays):
            for delay in delays:
                yield pause(delay)
                log.append((env.now, me))

        for me, delays in enumerate(programs):
            start(actor(me, delays))
        env.run()
        return log

    clock, stock = Clock(), Environment()
    assert run(clock, clock.job, int) == run(stock, stock.process, stock.timeout)


def test_time_is_a_whole_number_of_nanoseconds():
    clock, seen = Clock(), []

    def work():
        yield 5
        seen.append(clock.now)
        yield clock.timeout(7)
        seen.append(clock.now)

    clock.job(work())
    clock.run()
    assert seen == [5, 12]
    assert [type(at) for at in seen] == [int, int]


def test_a_job_fires_with_what_it_returns():
    clock = Clock()

    def work():
        yield 3
        return "done"

    assert clock.run(until=clock.job(work())) == "done"
    assert clock.now == 3


def test_a_job_begins_when_the_clock_runs_and_not_before():
    clock, seen = Clock(), []

    def work():
        seen.append("begun")
        yield 0

    clock.job(work())
    assert seen == []
    clock.step()
    assert seen == ["begun"]


def test_what_a_job_raises_reaches_whoever_waits_for_it():
    clock = Clock()

    def broken():
        yield 1
        raise RuntimeError("oops")

    def patient():
        try:
            yield clock.job(broken())
        except RuntimeError as bad:
            return str(bad)

    assert clock.run(until=clock.job(patient())) == "oops"


def test_what_a_job_raises_for_nobody_stops_the_clock():
    clock = Clock()

    def broken():
        yield 1
        raise RuntimeError("oops")

    clock.job(broken())
    with pytest.raises(RuntimeError, match="oops"):
        clock.run()


def test_an_event_that_is_over_does_not_hold_up_a_job():
    clock, seen = Clock(), []
    past = clock.event()
    past.succeed("late")
    clock.run()

    def work():
        seen.append((yield past))

    clock.job(work())
    clock.run()
    assert seen == ["late"]


def test_an_event_that_failed_is_raised_inside_the_job():
    clock = Clock()
    event = clock.event()

    def work():
        try:
            yield event
        except ValueError:
            return "caught"

    job = clock.job(work())
    clock.later(5, event.fail, ValueError("no"))
    assert clock.run(until=job) == "caught"


def test_two_jobs_that_wait_for_one_event_go_on_at_the_same_instant():
    clock, seen = Clock(), []
    event = clock.event()

    def work(name):
        yield event
        seen.append((clock.now, name))
        yield 50
        seen.append((clock.now, name))

    for name in "ab":
        clock.job(work(name))
    clock.later(10, event.succeed)
    clock.run()
    assert seen == [(10, "a"), (10, "b"), (60, "a"), (60, "b")]


def test_calls_of_one_instant_come_in_the_order_in_which_they_were_asked_for():
    clock, seen = Clock(), []
    for name in "abc":
        clock.later(4, seen.append, name)
    clock.later(3, seen.append, "first")
    clock.run()
    assert seen == ["first", "a", "b", "c"]


def test_a_clock_with_nothing_to_do_says_so():
    with pytest.raises(EmptySchedule):
        Clock().step()


def test_a_run_may_stop_at_an_instant():
    clock, seen = Clock(), []
    for at in (1, 5, 9):
        clock.later(at, seen.append, at)
    clock.run(until=6)
    assert (seen, clock.now) == ([1, 5], 6)


def test_who_waits_for_the_event_that_stops_the_clock_is_told_when_it_runs_again():
    clock, told = Clock(), []
    event = clock.event()

    def waiter():
        yield 1  # so that it comes after the stop in the event's own list
        yield event
        told.append(clock.now)

    clock.job(waiter())
    clock.later(10, event.succeed)
    clock.run(until=event)
    assert told == []
    clock.run()
    assert told == [10]


def test_ctrl_c_comes_between_two_steps_and_what_was_next_is_done_when_the_clock_runs_again():
    clock, log = Clock(), []
    clock.later(1, lambda: (clock.interrupt(KeyboardInterrupt()), log.append("whole")))
    clock.later(2, log.append, "next")
    with pytest.raises(KeyboardInterrupt):
        clock.run()
    assert (log, clock.now) == (["whole"], 1)
    clock.run()
    assert (log, clock.now) == (["whole", "next"], 2)


def test_a_job_that_is_alone_waits_for_ctrl_c_too():
    clock, log = Clock(), []

    def alone():
        clock.interrupt(KeyboardInterrupt())
        yield 5
        log.append("never now")

    clock.job(alone())
    with pytest.raises(KeyboardInterrupt):
        clock.run()
    assert log == []


def test_ctrl_c_at_the_very_end_of_a_run_is_not_kept_for_the_next():
    clock = Clock()
    done = clock.event()
    done.callbacks.append(lambda _event: clock.interrupt(KeyboardInterrupt()))
    clock.later(1, done.succeed)
    with pytest.raises(KeyboardInterrupt):
        clock.run(until=done)
    clock.run()


def test_ctrl_c_while_the_clock_stands_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt):
        Clock().interrupt(KeyboardInterrupt())


def test_who_waits_for_an_event_behind_one_that_is_struck_is_told_when_the_clock_runs_again():
    clock, log = Clock(), []

    def struck(_event):
        raise KeyboardInterrupt

    event = clock.event()
    event.callbacks += [struck, lambda _event: log.append("told")]
    event.succeed()
    with pytest.raises(KeyboardInterrupt):
        clock.run()
    assert log == []
    clock.run()
    assert log == ["told"]


def test_nobody_hears_of_a_job_that_was_given_up():
    clock, closed = Clock(), []

    def work(event):
        try:
            yield event
        finally:
            closed.append(clock.now)

    event = clock.event()
    job = clock.job(work(event))
    clock.later(3, clock.interrupt, KeyboardInterrupt())
    clock.later(5, event.fail, RuntimeError("of a call that is over"))
    with pytest.raises(KeyboardInterrupt):
        clock.run(until=job)
    job.abandon()
    assert closed == [3]
    clock.run()
    assert clock.now == 5


def test_a_job_that_has_failed_already_is_given_up_without_its_error():
    clock = Clock()

    def work():
        yield 1
        raise RuntimeError("of a call that is over")

    job = clock.job(work())
    while not job.triggered:
        clock.step()
    job.abandon()
    clock.run()
    assert job.processed
