from labkit.hardware.device import Command
from labkit.machine import Machine


def begun(**profile):
    machine = Machine(device="null", ram="128 MiB", fragmentation=0, profile=profile)
    machine.device.poke(0, b"z" * 4096)
    return machine, []


def test_the_copy_is_done_at_once_and_the_timer_says_when_that_is_told():
    machine, told = begun(irqmode=2, completion_nsec=500)
    machine.device.submit(Command(1, 1, 0, False, 0, 4096, ((0x6400000, 4096),)), told.append)
    assert bytes(machine.ram.view(0x6400000, 4096)) == b"z" * 4096
    assert told == []
    machine.clock.run()
    assert (told, machine.clock.now) == ([0], 500)


def test_a_command_that_is_aborted_before_it_begins_never_does():
    machine, told = begun()
    machine.device.abort(1)
    machine.device.submit(Command(1, 1, 0, False, 0, 4096, ((0x6400000, 4096),)), told.append)
    machine.clock.run()
    assert told == []
    assert bytes(machine.ram.view(0x6400000, 4096)) == bytes(4096)


def test_beyond_the_end_is_eio():
    machine, told = begun()
    machine.device.submit(Command(1, 1, 0, False, machine.device.nbytes >> 9, 512, ((0x6400000, 512),)), told.append)
    machine.clock.run()
    assert told == [5]
