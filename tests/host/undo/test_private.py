import os
import re

import pytest

from labkit.errors import NotAllowed
from labkit.host.undo import private

ANY = re.compile(r"x-\d+-[0-9a-f]{16}\.t")


@pytest.fixture
def home(place):
    return private.home(place)


def test_a_file_is_made_for_its_owner_alone(home):
    path, fd = private.create(home, "x", ".t")
    assert ANY.fullmatch(path.name)
    assert path.parent == home
    assert private.is_private(fd)
    with private.opened(str(path)) as again:
        assert private.is_held(again)
    os.close(fd)
    with private.opened(str(path)) as again:
        assert not private.is_held(again)
    private.remove(path)
    assert not home.exists()


def test_a_sweep_takes_what_has_no_owner_no_user_and_the_right_name(home):
    living, fd = private.create(home, "x", ".t")
    names = [f"x-1-{digit * 16}.t" for digit in "abc"]
    for name in (*names, "y-1-aaaaaaaaaaaaaaaa.t"):
        (home / name).touch()
    assert private.sweep(home, ANY, lambda: {home / names[1]}) == [str(home / names[0]), str(home / names[2])]
    assert sorted(path.name for path in home.iterdir()) == sorted([living.name, names[1], "y-1-aaaaaaaaaaaaaaaa.t"])
    os.close(fd)


def test_a_directory_that_others_may_use_is_not_used(home):
    home.mkdir(0o755)
    with pytest.raises(NotAllowed, match=r"is not private to this user: remove it, or set TMPDIR .* \(-EPERM\)"):
        private.create(home, "x", ".t")
    home.mkdir(exist_ok=True)
    (home / "x-1-aaaaaaaaaaaaaaaa.t").touch()
    home.chmod(0o777)
    assert private.sweep(home, ANY, set) == []
    assert (home / "x-1-aaaaaaaaaaaaaaaa.t").exists()


def test_what_belongs_to_somebody_else_is_not_private(home, monkeypatch):
    path, fd = private.create(home, "x", ".t")
    assert private.is_private(fd)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not private.is_private(fd)
    with pytest.raises(NotAllowed, match=r"is not private to this user: remove it"), private.locked(home):
        pass
    os.close(fd)
    private.remove(path)


def test_a_run_that_does_not_go_on_is_not_waited_for_for_ever(home, monkeypatch):
    path, fd = private.create(home, "x", ".t")
    monkeypatch.setattr(private, "_LOCK_SECONDS", 0.05)
    with private.locked(home):
        with pytest.raises(NotAllowed, match=r"/labkit-\d+ is held by a run that does not go on: .* \(-EAGAIN\)"):
            private.create(home, "x", ".t")
        assert private.sweep(home, ANY, set) == []
    os.close(fd)
    assert private.sweep(home, ANY, set) == [str(path)]
