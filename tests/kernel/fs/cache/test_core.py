import errno

import pytest

from labkit.errors import SyscallError
from labkit.trace.page_flags import PG_locked


def test_a_lock_is_had_by_one_at_a_time_and_each_who_waits_gets_it(world):
    one = world()
    one.read(0, 4096)
    core, folio, order = one.cache._core, one.mapping.find(0), []

    def hold(name):
        assert (yield from core.lock(folio, name))
        order.append((name, "has it"))
        yield 50
        order.append((name, "lets go"))
        core.unlock(folio, name)

    for name in (1, 2, 3):
        one.env.job(hold(name))
    one.env.run()
    assert order == [(n, what) for n in (1, 2, 3) for what in ("has it", "lets go")]
    one.look()


def test_who_waits_for_a_folio_that_leaves_the_file_does_not_get_it(world):
    one = world()
    one.read(0, 4096)
    core, folio = one.cache._core, one.mapping.find(0)
    core.change(folio, PG_locked)
    job = one.env.job(core.lock(folio, 1))
    one.env.run()
    one.mapping.remove(0)
    core.unlock(folio, 2)
    assert one.env.run(until=job) is False
    one.look()


def test_flags_that_are_so_already_are_not_told_again(world):
    one = world()
    one.read(0, 4096)
    core, folio, told = one.cache._core, one.mapping.find(0), len(one.raw)
    core.change(folio, folio.flags, PG_locked)
    assert len(one.raw) == told


def test_the_first_error_is_told_and_told_once(world):
    core = world().cache._core
    core.fail(errno.ENOSPC)
    core.fail(errno.EIO)
    with pytest.raises(SyscallError) as caught:
        core.check()
    assert caught.value.errno == errno.ENOSPC
    core.check()
