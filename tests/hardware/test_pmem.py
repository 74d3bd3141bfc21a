from labkit.hardware.device import Command
from labkit.machine import Machine


def test_a_copy_takes_the_latency_and_the_bandwidth_and_is_over():
    machine = Machine(device="pmem", ram="128 MiB", fragmentation=0)
    read = Command(1, 1, 0, False, 0, 3900, ((0x6400000, 3900),))
    assert machine.device.latency(read) == 305 + 100  # 39 bytes a ns
    machine.device.poke(0, b"p" * 3900)
    assert machine.device.copy(read) == 0
    assert bytes(machine.ram.view(0x6400000, 3900)) == b"p" * 3900


def test_whoever_submits_a_command_is_told_later():
    machine, told = Machine(device="pmem", ram="128 MiB", fragmentation=0), []
    machine.device.submit(Command(1, 1, 0, True, 0, 512, ((0x6400000, 512),)), told.append)
    machine.clock.run()
    assert (told, machine.clock.now) == ([0], 94 + 36)  # 512 bytes at 14 a ns
