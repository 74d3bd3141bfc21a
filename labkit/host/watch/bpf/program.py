"""The program that looks at each bio of some devices, as text: what it copies, and from where.

It runs in whoever queues the bio, reads the kernel's memory only by bpf_probe_read_kernel, which survives any address,
and keeps at most 256 vectors of a bio (BIO-1). Where its ring has no room, it counts.
"""

from collections.abc import Sequence

import numpy as np

from labkit.host.watch.btf import Btf

TRACEPOINT = "block_bio_queue"
MOST_VECS = 256
HEAD = np.dtype([
    ("bi_sector", "<u8"), ("bi_size", "<u4"), ("bi_idx", "<u4"), ("bi_bvec_done", "<u4"), ("bi_opf", "<u4"),
    ("bi_vcnt", "<u2"), ("bi_max_vecs", "<u2"), ("bd_dev", "<u4"), ("pid_tgid", "<u8"), ("ktime", "<u8"),
    ("comm", "S16"), ("left", "<u8"), ("covered", "<u4"), ("", "V4"),
])  # fmt: skip
"""What stands before the vectors of a record. `left`: bytes of the bio behind the last vector, after `covered` bytes of
vectors; 0 if there is no such."""
_MEMBERS = {
    "bi_sector": "bio.bi_iter.bi_sector", "bi_size": "bio.bi_iter.bi_size", "bi_idx": "bio.bi_iter.bi_idx",
    "bi_bvec_done": "bio.bi_iter.bi_bvec_done", "bi_opf": "bio.bi_opf", "bi_vcnt": "bio.bi_vcnt",
    "bi_max_vecs": "bio.bi_max_vecs",
}  # fmt: skip
_TEXT = """
    r7 = *(u64 *)(r1 + 0)                  ; the first argument of the tracepoint: struct bio *
    {bdev}
    r3 = *(u64 *)(r10 - 8)
    {dev}
    r9 = *(u32 *)(r10 - 8)
    {watched}
    goto end
watched:
    r1 = map ring
    r2 = {record}
    r3 = 0
    call ringbuf_reserve
    if r0 != 0 goto reserved
    r1 = 0
    *(u32 *)(r10 - 8) = r1
    r1 = map lost
    r2 = r10
    r2 += -8
    call map_lookup_elem
    if r0 == 0 goto end
    r1 = 1
    lock *(u64 *)(r0 + 0) += r1
    goto end
reserved:
    r8 = r0
    *(u32 *)(r8 + {bd_dev}) = r9
    {members}
    call get_current_pid_tgid
    *(u64 *)(r8 + {pid_tgid}) = r0
    call ktime_get_ns
    *(u64 *)(r8 + {ktime}) = r0
    r1 = r8
    r1 += {comm}
    r2 = 16
    call get_current_comm
    {io_vec}
    r7 = *(u64 *)(r10 - 8)                 ; the vectors begin at bi_io_vec[bi_idx]
    r1 = *(u32 *)(r8 + {bi_idx})
    r1 *= {bio_vec}
    r7 += r1
    r6 = *(u32 *)(r8 + {bi_size})          ; and of the first one bi_bvec_done bytes are over
    r1 = *(u32 *)(r8 + {bi_bvec_done})
    r6 += r1
    r9 = 0
vec:
    if r6 == 0 goto done
    if r9 >= {vecs} goto done
    r1 = r8
    r1 += r9
    r1 += {head}
    r2 = {bio_vec}
    r3 = r7
    r3 += r9
    call probe_read_kernel
    if r0 != 0 goto done
    r1 = r8
    r1 += r9
    r1 = *(u32 *)(r1 + {bv_len})
    r9 += {bio_vec}
    if r1 >= r6 goto all
    r6 -= r1
    goto vec
all:
    r6 = 0
done:
    *(u64 *)(r8 + {left}) = r6
    *(u32 *)(r8 + {covered}) = r9
    r1 = r8
    r2 = 0
    call ringbuf_submit
end:
    r0 = 0
    exit
"""


def source(kdevs: Sequence[int], types: Btf) -> str:
    """Return the program for the devices `kdevs` (major << 20 | minor), as far as the assembler; `types`: the kernel's.

    Its maps are called ring and lost. Raises BadInput ENOENT for a kernel whose bio is another.
    """
    where = {name: int(field[1]) for name, field in (HEAD.fields or {}).items()}
    bio_vec = types.size("bio_vec")
    return _TEXT.format(
        bdev=_copy("r10", -8, 8, types.offset("bio.bi_bdev")),
        dev=_copy("r10", -8, 4, types.offset("block_device.bd_dev"), "r3"),
        watched="\n".join(f"if w9 == {_signed(kdev)} goto watched" for kdev in kdevs),
        members="\n".join(
            _copy("r8", where[name], HEAD[name].itemsize, types.offset(path)) for name, path in _MEMBERS.items()
        ),
        io_vec=_copy("r10", -8, 8, types.offset("bio.bi_io_vec")),
        record=HEAD.itemsize + MOST_VECS * bio_vec, vecs=MOST_VECS * bio_vec, bio_vec=bio_vec, head=HEAD.itemsize,
        bv_len=HEAD.itemsize + types.offset("bio_vec.bv_len"), **where,
    )  # fmt: skip


def _copy(to: str, at: int, nbytes: int, member: int, of: str = "r7") -> str:
    """Return the call that copies `nbytes`, `member` bytes behind register `of`, to `at` bytes behind register `to`."""
    return f"""
    r3 = {of}
    r3 += {member}
    r1 = {to}
    r1 += {at}
    r2 = {nbytes}
    call probe_read_kernel
    """


def _signed(word: int) -> int:
    """Return the 32 bits of `word` as an instruction has them."""
    return word - (1 << 32) if word >> 31 else word


def vec(types: Btf) -> "np.dtype[np.void]":
    """Return struct bio_vec as it follows HEAD. Raises BadInput ENOENT."""
    names = ("bv_page", "bv_len", "bv_offset")
    offsets = [types.offset(f"bio_vec.{name}") for name in names]
    size = types.size("bio_vec")
    return np.dtype({"names": names, "formats": ("<u8", "<u4", "<u4"), "offsets": offsets, "itemsize": size})
