import errno
import itertools
import os
import random
import threading
from pathlib import Path

import pytest

from labkit.errors import BadInput, NotAllowed, SyscallError
from labkit.host.calls.ring import Transfer
from labkit.host.disk.loopdev import LoopDevice
from labkit.host.memory.arena import arena
from labkit.host.probe import probe

MIB = 1 << 20


def sysfs(device, name):
    return Path(f"/sys/block/{device.path.removeprefix('/dev/')}/{name}").read_text().strip()


def written(text):
    view = arena(4096)
    view[: len(text)] = text
    return view


@pytest.fixture
def device():
    with LoopDevice.attach(MIB) as attached:
        yield attached


@pytest.mark.host
def test_a_device_is_attached_written_read_and_detached(left):
    with LoopDevice.attach(MIB) as device:
        assert left() == ([device.path], [device.backing.name])
        view, back = written(b"phyr"), arena(4096)
        assert device.pwritev([view], 8192) == 4096
        assert device.preadv([back[:512], back[1024:1536]], 8192) == 1024
        assert bytes(back[:4]) == b"phyr"
        assert bytes(back[512:4096]) == bytes(3584)
    assert left() == ([], [])
    assert not device.backing.parent.exists()


@pytest.mark.host
def test_the_device_has_the_size_that_was_asked_for_and_goes_with_its_last_close(device):
    assert sysfs(device, "size") == "2048"
    assert sysfs(device, "loop/autoclear") == "1"
    assert sysfs(device, "loop/backing_file") == str(device.backing)
    assert device.nbytes == MIB


@pytest.mark.host
def test_the_backing_file_is_sparse_private_and_marked(device, place):
    assert device.backing.parent == place / f"labkit-{os.geteuid()}"
    assert device.backing.name.startswith(f"labkit-loop-{os.getpid()}-")
    assert device.backing.parent.stat().st_mode & 0o777 == 0o700
    assert device.backing.stat().st_mode & 0o777 == 0o600
    assert device.backing.stat().st_blocks == 0


@pytest.mark.host
@pytest.mark.parametrize("block_size", [512, 1024, 2048, 4096])
def test_the_limits_are_those_of_sysfs(block_size):
    with LoopDevice.attach(MIB, logical_block_size=block_size) as device:
        shown = {name: int(sysfs(device, f"queue/{name}")) for name in set(device.limits) - {"dio"}}
        assert device.limits == {**shown, "dio": int(sysfs(device, "loop/dio"))}
        assert device.limits["logical_block_size"] == block_size
        assert {"max_segments", "max_segment_size", "max_sectors_kb", "nr_requests"} < set(device.limits)


@pytest.mark.host
def test_a_position_inside_a_logical_block_of_4096_is_refused():
    with LoopDevice.attach(MIB, logical_block_size=4096) as device:
        assert device.preadv([arena(4096)], 4096) == 4096
        with pytest.raises(SyscallError, match=r"preadv: .* at 512 .* multiples of 4096 \(O_DIRECT\) \(-EINVAL\)"):
            device.preadv([arena(4096)], 512)


@pytest.mark.host
def test_the_file_may_lie_in_another_directory(tmp_path_factory, left):
    other = tmp_path_factory.mktemp("other")
    with LoopDevice.attach(MIB, directory=other) as device:
        assert device.backing.parent.parent == other
        assert left() == ([], [])
    assert list(other.iterdir()) == []


@pytest.mark.host
def test_a_read_at_the_end_is_short(device):
    assert device.preadv([arena(4096)], MIB - 1024) == 1024
    assert device.preadv([arena(4096)], MIB) == 0


@pytest.mark.host
def test_a_write_beyond_the_end_has_no_space(device):
    with pytest.raises(SyscallError, match=r"pwritev: .* fails: No space left on device \(-ENOSPC\)") as caught:
        device.pwritev([arena(4096)], MIB)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.host
def test_1024_iovecs_are_one_io_and_one_more_is_too_many(device):
    view = written(b"io")
    assert device.pwritev([view[:512]] * 1024, 0) == 512 * 1024
    assert device.peek(512 * 1023, 3) == b"io\0"
    for call in (device.preadv, device.pwritev):
        with pytest.raises(SyscallError, match=r"1025 iovecs .* more than 1024 iovecs \(IOV_MAX\) \(-EINVAL\)"):
            call([view[:512]] * 1025, 0)


@pytest.mark.host
def test_the_device_reads_its_file_directly_where_the_file_can_be():
    if not probe()["o_direct"].ok:
        pytest.skip("no O_DIRECT in the temporary directory")
    with LoopDevice.attach(MIB, logical_block_size=4096) as device:
        assert device.limits["dio"] == 1


def is_cached(fd):
    try:
        return os.preadv(fd, [bytearray(512)], 0, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False


@pytest.mark.host
def test_poke_and_peek_leave_and_trust_no_cache(device):
    with device.backing.open("r+b", buffering=0) as file:
        file.write(b"x" * 4096)
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if is_cached(file.fileno()):
            pytest.skip("this file system keeps in memory what it is told to drop")
        device.poke(1, b"poke")
        assert not is_cached(file.fileno())
        assert device.peek(0, 6) == b"xpokex"
        assert is_cached(file.fileno())
        device.poke(MIB - 1, b"!")
        assert not is_cached(file.fileno())


@pytest.mark.host
@pytest.mark.parametrize("first", ["poke", "pwritev"])
@pytest.mark.parametrize("then", list(itertools.permutations(["peek", "preadv", "poke", "pwritev"])))
def test_the_file_and_the_device_agree_in_every_order(device, first, then):
    truth = bytearray(8192)
    for count, call in enumerate((first, *then, "peek", "preadv"), start=1):
        if call == "poke":
            device.poke(511, bytes([count]) * 1026)
            truth[511 : 511 + 1026] = bytes([count]) * 1026
        elif call == "pwritev":
            device.pwritev([written(bytes([count]) * 512)[:512]], 1024)
            truth[1024:1536] = bytes([count]) * 512
        elif call == "peek":
            assert device.peek(0, 8192) == truth
        else:
            view = arena(8192)
            assert device.preadv([view], 0) == 8192
            assert view == truth


@pytest.mark.host
def test_the_file_and_the_device_agree_after_many_random_calls(device):
    dice, truth, seen = random.Random(7), bytearray(MIB), 0  # dice, not secrets
    for _ in range(400):
        pos, nbytes, fill = dice.randrange(MIB // 2), dice.randrange(1, 40_000), dice.randrange(1, 256)
        start, sectors = pos & ~511, max(512, nbytes & ~511)
        match dice.choice(["peek", "poke", "preadv", "pwritev"]):
            case "peek":
                assert device.peek(pos, nbytes) == truth[pos : pos + nbytes]
                seen += any(truth[pos : pos + nbytes])
            case "poke":
                device.poke(pos, bytes([fill]) * nbytes)
                truth[pos : pos + nbytes] = bytes([fill]) * nbytes
            case "preadv":
                view = arena(sectors)
                assert device.preadv([view], start) == sectors
                assert view == truth[start : start + sectors]
            case "pwritev":
                view = arena(sectors)
                view[:] = bytes([fill]) * sectors
                assert device.pwritev([view], start) == sectors
                truth[start : start + sectors] = view
    assert seen > 20


@pytest.mark.host
@pytest.mark.parametrize(("pos", "nbytes"), [(-1, 1), (MIB, 1), (MIB - 1, 2), (0, MIB + 1)])
def test_peek_and_poke_stay_on_the_device(device, pos, nbytes):
    with pytest.raises(BadInput, match=rf"loop: peek of {nbytes} B at {pos} leaves the 1048576 B"):
        device.peek(pos, nbytes)
    with pytest.raises(BadInput, match=rf"loop: poke of {nbytes} B at {pos} leaves the 1048576 B"):
        device.poke(pos, bytes(nbytes))
    assert device.backing.stat().st_size == MIB


@pytest.mark.parametrize("nbytes", [0, -1, -4096, 1, 511, 513])
def test_a_size_that_is_no_multiple_of_the_logical_block_is_bad_input(left, nbytes):
    with pytest.raises(BadInput, match=rf"loop: nbytes={nbytes} is no positive multiple of the logical block, 512"):
        LoopDevice.attach(nbytes)
    assert left() == ([], [])


@pytest.mark.parametrize("block_size", [0, -512, 1, 256, 513, 3000, 8192])
def test_a_logical_block_that_no_kernel_has_is_bad_input(left, block_size):
    with pytest.raises(BadInput, match=rf"loop: logical_block_size={block_size} is no power of two"):
        LoopDevice.attach(MIB, logical_block_size=block_size)
    assert left() == ([], [])


@pytest.mark.host
def test_a_size_that_divides_into_512_but_not_into_4096_is_bad_input(left):
    with pytest.raises(BadInput, match="multiple of the logical block, 4096"):
        LoopDevice.attach(4096 + 512, logical_block_size=4096)
    assert left() == ([], [])


@pytest.mark.host
def test_detach_may_be_called_again_and_io_then_says_so(left):
    device = LoopDevice.attach(MIB)
    device.detach()
    device.detach()
    assert left() == ([], [])
    for call in (lambda: device.preadv([arena(512)], 0), lambda: device.peek(0, 1), lambda: device.poke(0, b"x")):
        with pytest.raises(SyscallError, match=r"/dev/loop\d+ .*\(-EBADF\)"):
            call()


@pytest.mark.host
def test_an_exception_detaches(left):
    def fail():
        with LoopDevice.attach(MIB) as device:
            assert left()[0] == [device.path]
            device.pwritev([arena(512)], 1 // 0)

    with pytest.raises(ZeroDivisionError):
        fail()
    assert left() == ([], [])


@pytest.mark.host
def test_a_device_that_another_keeps_open_is_reported_and_goes_with_the_last_close(left, monkeypatch):
    monkeypatch.setattr("labkit.host.disk.loopdev._DETACH_SECONDS", 0.05)
    device = LoopDevice.attach(MIB)
    fd = os.open(device.path, os.O_RDONLY)
    with pytest.raises(
        NotAllowed, match=r"loop: /dev/loop\d+ is kept open by another process: end that one \(-EBUSY\)"
    ):
        device.detach()
    device.detach()
    assert left() == ([device.path], [])
    os.close(fd)
    assert left() == ([], [])


@pytest.mark.host
def test_many_threads_have_many_devices(left):
    paths, failures = set(), []

    def work():
        try:
            for _ in range(5):
                with LoopDevice.attach(MIB) as device:
                    paths.add(device.path)
                    device.pwritev([written(device.path.encode())], 0)
                    assert device.peek(0, len(device.path)) == device.path.encode()
        except BaseException as error:  # noqa: BLE001  # told by the assert below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(paths) > 1
    assert left() == ([], [])


@pytest.mark.host
def test_a_batch_moves_many_pieces_side_by_side_and_leaves_nothing(left):
    with LoopDevice.attach(1 << 20) as device:
        memory = arena(8 * 4096)
        views = [memory[i * 4096 : (i + 1) * 4096] for i in range(8)]
        for i, view in enumerate(views):
            view[:] = bytes([i + 1]) * 4096
        assert device.batch([Transfer([view], i * 8192, write=True) for i, view in enumerate(views)]) == [4096] * 8
        assert [device.peek(i * 8192, 1)[0] for i in range(8)] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert device.batch([Transfer(views[:2], 8192), Transfer([views[2][:511]], 0)]) == [8192, -errno.EINVAL]
        assert (views[0][0], views[1][0]) == (2, 0)
    assert left() == ([], [])


FORKS = """
import os
from labkit.host.disk.loopdev import LoopDevice
with LoopDevice.attach(1 << 20) as device:
    if not (pid := os.fork()):
        device.detach()
        os._exit(0)
    os.waitpid(pid, 0)
    print(device.backing.exists(), device._is_attached())
"""


@pytest.mark.host
def test_a_forked_child_that_detaches_takes_nothing_from_its_parent(start, left):
    child = start(FORKS)
    assert child.communicate(timeout=30) == ("True True\n", "")
    assert left() == ([], [])
