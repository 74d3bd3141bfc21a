"""Rings as a program has them: batches, registered buffers of every folio size on every kernel, and their end."""

import errno

import pytest

from labkit.errors import BadInput, SyscallError
from labkit.kernel.currency.listed import ListedCurrency
from labkit.machine import Machine
from labkit.trace.events import BlockBioBackmerge, BlockRqIssue, GupPin

KIB = 1 << 10


def world(system="phyr", **knobs):
    machine = Machine(**({"ram": "64 MiB", "fragmentation": 0, "check": True, "iommu": "off"} | knobs), system=system)
    task = machine.task()
    return machine, task, task.open("/dev/nvme0n1")


def test_entries_of_one_batch_that_touch_become_one_request(nothing_held):
    machine, task, fd = world()
    ring, buf = task.io_uring(), task.mmap("32 KiB")
    task.store(buf, bytes(range(256)) * 128)
    data = [ring.write(fd, buf + at, 4096, at) for at in range(0, 32 * KIB, 4096)]
    done = ring.submit()
    assert sorted(cqe.user_data for cqe in done) == data == list(range(8))
    assert {cqe.res for cqe in done} == {4096}
    assert (len(machine.trace.of(BlockBioBackmerge)), len(machine.trace.of(BlockRqIssue))) == (7, 1)
    assert machine.device.peek(0, 32 * KIB) == bytes(range(256)) * 128
    nothing_held(machine)


@pytest.mark.parametrize("system", ["page", "unified"])
def test_pages_of_a_pci_device_are_not_registered(system, nothing_held):
    machine, task, _ = world(system, route="switch")
    buf = task.mmap("64 KiB", folio="p2pdma")
    with pytest.raises(SyscallError, match=rf"gup: addr={buf:#x} is memory of a PCI device.*\(-EREMOTEIO\)"):
        task.io_uring().register_buffers([(buf, "64 KiB")])
    nothing_held(machine)


@pytest.mark.parametrize("system", ["page", "phyr", "unified"])
def test_only_an_entry_that_names_the_buffer_has_it_by_its_registration(system, nothing_held):
    machine, task, fd = world(system)
    ring, buf = task.io_uring(), task.mmap("16 KiB")
    task.store(buf, b"16 bytes of text" * 1024)
    ring.register_buffers([(buf, "16 KiB")])
    named, plain = ring.write(fd, buf, "16 KiB", buf_index=0), ring.write(fd, buf, "16 KiB", "16 KiB")
    assert {cqe.user_data: cqe.res for cqe in ring.submit()} == {named: 16384, plain: 16384}
    assert [rec.atomics > 0 for rec in machine.trace.of(GupPin)] == [True, False, True]
    task.munmap(buf)
    named, plain = ring.write(fd, buf, "16 KiB", buf_index=0), ring.write(fd, buf, "16 KiB")
    assert {cqe.user_data: cqe.res for cqe in ring.submit()} == {named: 16384, plain: -errno.EFAULT}
    ring.unregister_buffers()
    nothing_held(machine)


def test_where_merges_are_forbidden_every_entry_is_a_request(nothing_held):
    machine, task, fd = world(limits={"nomerges": 2})
    ring, buf = task.io_uring(), task.mmap("32 KiB")
    for at in range(0, 32 * KIB, 4096):
        ring.read(fd, buf + at, 4096, at)
    ring.submit()
    assert (len(machine.trace.of(BlockBioBackmerge)), len(machine.trace.of(BlockRqIssue))) == (0, 8)
    nothing_held(machine)


def test_one_entry_that_fails_does_not_keep_the_others(nothing_held):
    machine, task, fd = world()
    ring, buf = task.io_uring(), task.mmap("8 KiB")
    good, bad, last = ring.read(fd, buf, 4096, 0), ring.read(fd, 0x1000, 4096, 0), ring.readv(fd, [(buf, 4096)], 4096)
    done = {cqe.user_data: cqe.res for cqe in ring.submit()}
    assert done == {good: 4096, bad: -errno.EFAULT, last: 4096}
    assert str(ring.error(bad)) == "gup: addr=0x1000 is not mapped (MM-4) (-EFAULT)"
    assert ring.error(good) is None
    assert ring.submit() == []
    nothing_held(machine)


@pytest.mark.parametrize(
    ("kernel", "folio", "lengths"),
    [
        *((kernel, "4KiB", [4096] * 32) for kernel in ("6.1", "6.12", "6.18", "7.3")),
        ("6.1", "64KiB", [4096] * 32),
        *((kernel, "64KiB", [64 * KIB] * 2) for kernel in ("6.12", "6.18", "7.3")),
        ("6.1", "2MiB", [4096] * 32),
        *((kernel, "2MiB", [128 * KIB]) for kernel in ("6.12", "6.18", "7.3")),
    ],
)
@pytest.mark.parametrize("system", ["page", "unified", "phyr"])
def test_a_registered_buffer_keeps_the_vectors_of_its_kernel(system, kernel, folio, lengths, nothing_held):
    machine, task, fd = world(system, kernel=kernel)
    ring, buf = task.io_uring(), task.mmap("2 MiB", folio=folio)
    task.store(buf, b"fixed..." * (16 * KIB))
    ring.register_buffers([(buf, 128 * KIB)])
    (region,) = machine.dio.currency.regions.values()
    assert [nbytes for _, nbytes in region.table] == ([] if system == "phyr" else lengths)
    held = dict(machine.ledger.held)
    ring.write(fd, buf, 128 * KIB, 0, buf_index=0)
    ring.read(fd, buf + 512, 4096, 0, buf_index=0)
    assert [cqe.res for cqe in ring.submit()] in ([128 * KIB, 4096], [4096, 128 * KIB])
    assert machine.device.peek(0, 8) == b"fixed..."
    assert machine.ledger.held == held  # the IO has pinned nothing of its own
    assert [rec.atomics for rec in machine.trace.of(GupPin) if rec.io] == [0, 0]
    task.exit()
    nothing_held(machine)


@pytest.mark.parametrize("system", ["page", "unified", "phyr"])
def test_a_fixed_entry_outside_its_registration_is_EFAULT(system, nothing_held):
    machine, task, fd = world(system)
    ring, buf = task.io_uring(), task.mmap("64 KiB")
    task.store(buf, bytes(65536))
    ring.register_buffers([(buf + 4096, "8 KiB")])
    outside = [
        ring.read(fd, buf, 4096, buf_index=0),
        ring.read(fd, buf + 8192, 8192, buf_index=0),
        ring.read(fd, buf + 4096, 4096, buf_index=1),
        ring.write(fd, buf + 4096, 4096, buf_index=-1),
    ]
    assert {cqe.user_data: cqe.res for cqe in ring.submit()} == dict.fromkeys(outside, -errno.EFAULT)
    assert "is not inside registered buffer 0 (REG-4)" in str(ring.error(outside[1]))
    assert "buf_index=1 is not registered (REG-4)" in str(ring.error(outside[2]))
    inside = ring.read(fd, buf + 8192, 4096, buf_index=0)
    assert [tuple(cqe) for cqe in ring.submit()] == [(inside, 4096)]
    ring.unregister_buffers()
    assert machine.ledger.held == {}
    nothing_held(machine)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ((0x1000, 4096), errno.EFAULT),
        ((None, 0), errno.EFAULT),
        ((None, (1 << 40) + 1), errno.EINVAL),
        (((1 << 64) - 4096, 8192), errno.EOVERFLOW),
        ((None, 1 << 20), errno.EFAULT),
    ],
)
def test_of_a_registration_that_fails_nothing_is_kept(bad, code, nothing_held):
    machine, task, _ = world()
    ring, buf = task.io_uring(), task.mmap("64 KiB")
    task.store(buf, bytes(65536))
    with pytest.raises(SyscallError) as caught:
        ring.register_buffers([(buf, 4096), (buf if bad[0] is None else bad[0], bad[1])])
    assert caught.value.errno == code
    assert (ring.buffers, machine.ledger.held) == ([], {})
    ring.register_buffers([(buf, 4096)])
    with pytest.raises(SyscallError, match=r"are registered already \(-EBUSY\)"):
        ring.register_buffers([(buf, 4096)])
    task.exit()
    nothing_held(machine)


@pytest.mark.parametrize("system", ["page", "unified", "phyr"])
def test_a_task_that_exits_lets_go_of_what_its_rings_have_registered(system, nothing_held):
    machine, task, _ = world(system)
    free, buf = machine.buddy.nr_free, task.mmap("64 KiB")
    task.io_uring().register_buffers([(buf, "32 KiB")])
    task.aio().register_buffers([(buf + 32 * KIB, "32 KiB")])
    assert len(machine.ledger.held) == 2
    task.munmap(buf)
    assert machine.buddy.nr_free < free
    task.exit()
    assert (machine.ledger.held, machine.buddy.nr_free) == ({}, free)
    assert isinstance(machine.dio.currency, ListedCurrency)
    assert machine.dio.currency.regions == {}
    nothing_held(machine)


def test_words_that_are_no_numbers_are_refused_before_anything_is_submitted():
    _, task, fd = world()
    ring = task.io_uring()
    for ask in (lambda: ring.read(fd, 0, "many"), lambda: ring.write(fd, 0, 512, "there")):
        with pytest.raises(BadInput, match="is not a number of bytes"):
            ask()
    assert ring.submit() == []


@pytest.mark.parametrize("k", [1, 2])
def test_ctrl_c_at_the_pin_of_the_kth_buffer_registers_none(k, nothing_held):
    pins = []

    def strike(rec):
        if type(rec).__name__ == "GupPin":
            pins.append(rec)
            if len(pins) == k:
                raise KeyboardInterrupt

    machine = Machine(ram="64 MiB", watch=(strike,))
    task = machine.task()
    buf, ring = task.mmap("16 KiB"), task.io_uring()
    with pytest.raises(KeyboardInterrupt):
        ring.register_buffers([(buf, 4096), (buf + 8192, 4096)])
    assert (ring.buffers, len(pins)) == ([], k)
    nothing_held(machine)
    ring.register_buffers([(buf, 4096)])
    assert len(machine.ledger.held) == 1
