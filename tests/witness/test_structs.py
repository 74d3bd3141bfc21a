"""The model's sizes beside this kernel's."""

import pytest

from labkit.errors import NotAllowed
from labkit.host.watch import btf
from labkit.witness import structs
from labkit.witness.structs import MODEL, StructSize

BTF = pytest.mark.skipif(not btf.VMLINUX.exists(), reason="this kernel tells no types: CONFIG_DEBUG_INFO_BTF")


@BTF
def test_the_model_reckons_with_the_sizes_of_this_kernel():
    found = {each.name: each for each in structs.structs()}
    assert all(found[name].agree for name in MODEL)
    assert found["page"].kernel == 64
    assert found["bio"].model is None
    assert found["bio"].kernel > 100
    assert structs.told().endswith("the model has the same")


def test_a_size_that_is_another_is_told(monkeypatch):
    monkeypatch.setattr(btf, "struct_sizes", lambda _: {"page": 64, "bio_vec": 12, "bio": 120})
    assert [each for each in structs.structs() if not each.agree] == [StructSize("bio_vec", 16, 12)]
    assert structs.told() == (
        "bytes of this kernel's structs (BTF): page 64, bio_vec 12, bio 120; the model has bio_vec 16"
    )


def test_a_kernel_that_tells_nothing_is_one_sentence(monkeypatch):
    def refuse(_):
        raise NotAllowed("btf", "/sys/kernel/btf/vmlinux", "is not there: take a kernel that has it", 2)

    monkeypatch.setattr(btf, "struct_sizes", refuse)
    assert structs.told() == "btf: /sys/kernel/btf/vmlinux is not there: take a kernel that has it (-ENOENT)"
