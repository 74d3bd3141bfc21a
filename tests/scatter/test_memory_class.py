from labkit.scatter.memory_class import RAM, MemoryClass


def test_two_of_one_kind_and_one_provider_are_one_class():
    assert MemoryClass("ram") == RAM
    assert MemoryClass("mmio", "gpu0") == MemoryClass("mmio", "gpu0")
    assert len({RAM, MemoryClass("ram"), MemoryClass("mmio", "gpu0"), MemoryClass("mmio", "gpu1")}) == 3


def test_ram_is_nobodys():
    assert (RAM.kind, RAM.provider) == ("ram", "")
