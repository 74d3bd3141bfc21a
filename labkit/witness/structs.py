"""The sizes that the model reckons with, beside those of this kernel's own structs, as its BTF tells them."""

from typing import NamedTuple

from labkit.errors import LabkitError
from labkit.host.watch import btf
from labkit.kernel.dma.ops import IOVA_STATE_BYTES
from labkit.kernel.drivers.rq_map import DMA_VEC_BYTES
from labkit.scatter.bio_vec import BIO_VEC_BYTES
from labkit.scatter.page import STRUCT_PAGE_BYTES
from labkit.scatter.scatterlist import SG_BYTES

MODEL = {
    "page": STRUCT_PAGE_BYTES,
    "bio_vec": BIO_VEC_BYTES,
    "scatterlist": SG_BYTES,
    "phys_vec": DMA_VEC_BYTES,
    "dma_iova_state": IOVA_STATE_BYTES,
}
"""Bytes that the model has for each struct of which it counts what describes an IO."""
_OTHERS = ("folio", "bio", "request", "iov_iter", "kiocb", "io_mapped_ubuf", "blk_plug", "vm_area_struct")
"""Structs that come on the way of an IO, and that the model counts no bytes of."""


class StructSize(NamedTuple):
    """Bytes of a struct in the model, None for one that it does not count; in this kernel, None if it has none."""

    name: str
    model: int | None
    kernel: int | None

    @property
    def agree(self) -> bool:
        """Whether the model is right about it, as far as both know it."""
        return self.model is None or self.kernel is None or self.model == self.kernel


def structs() -> tuple[StructSize, ...]:
    """Return every struct, those of the model first. Raises NotAllowed where this kernel tells no types (no BTF)."""
    names = (*MODEL, *_OTHERS)
    found = btf.struct_sizes(names)
    return tuple(StructSize(name, MODEL.get(name), found.get(name)) for name in names)


def told() -> str:
    """Return a sentence: the sizes of this kernel, and which of them the model has otherwise; or why nobody knows."""
    try:
        every = structs()
    except LabkitError as no:
        return str(no)
    sizes = ", ".join(f"{each.name} {each.kernel}" for each in every if each.kernel is not None)
    wrong = ", ".join(f"{each.name} {each.model}" for each in every if not each.agree)
    return f"bytes of this kernel's structs (BTF): {sizes}; the model has {wrong or 'the same'}"
