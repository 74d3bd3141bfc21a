"""Every rule of prediction decides: with any one of them changed in the kernel's own code, a capture no longer fits."""

from functools import partial

import pytest

from labkit.kernel.block import plug, split
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.currency import fill
from labkit.witness.capture import Capture
from labkit.witness.check import residual
from labkit.witness.predict import predict

SEGMENTS = QueueLimits._segments


def with_limits(**values):
    """Patch the limits that a queue is validated to."""

    def _segments(self):
        SEGMENTS(self)
        self._set(**values)

    return lambda patch: patch.setattr(QueueLimits, "_segments", _segments)


def with_function(owner, name, function):
    return lambda patch: patch.setattr(owner, name, function)


def never_glued(vecs, runs, offset, nbytes):
    """Open a vector for each page, whatever touches."""
    fill.fold_folios(vecs, runs, offset, nbytes, lambda addr: (addr | 4095) + 1)


def by_pages(_vecs, taken):
    """Count pages, where the kernel counts vectors."""
    return 256 - sum(each.got.nr for each in taken)


def glued_table(table, runs, skip, nbytes, folio, rules):
    """Glue what touches in a registered buffer."""
    out = []
    for addr, length in table(runs, skip, nbytes, folio, rules):
        if out and sum(out[-1]) == addr:
            out[-1] = (out[-1][0], out[-1][1] + length)
        else:
            out.append((addr, length))
    return tuple(out)


def one_slice(walk, _addr, length, room):
    """Take a long vector as one segment."""
    take = min(length, room) if walk.segments < walk.limits.max_segments else 0
    walk.segments += bool(take)
    walk.nbytes += take
    return take == length


def untrimmed(filled, _lbs):
    return tuple(filled.vecs), filled.nbytes


# What is changed, how, and the captures that tell. Those without a number are made by hand.
MUTATIONS = [
    ("no physical merging (R3)", with_function(fill, "fold", never_glued), "07-1m-thp 24-iov-adjacent-merge"),
    ("256 pages, not vectors (R4)", with_function(fill, "room", by_pages), "12-3m-mthp64k 15-synth-17-pages"),
    ("no flush of the plug (R14)", with_function(plug.Plug, "must_flush", lambda *_: False), "15-synth-17-pages"),
    ("256 segments (R11)", with_limits(max_segments=256), "05-1m-random-4k 39-uring-read-1m-eagain"),
    ("flush on the last (R14)", with_function(plug, "decides", lambda it, _rules: it.held[-1][1]), "53-ext4-frag-read"),
    ("merging in registered buffers (R17)", with_function(fill, "fixed_table", partial(glued_table, fill.fixed_table)),
     "42-uring-fixed-1m-contig-4k fixed-in-a-part-that-is-known"),
    ("no check of 512 bytes (R9)", with_limits(dma_alignment=0), "03-8k-at-256-einval"),
    ("no fast path (R8)", with_function(split, "fits_unseen", lambda *_, **__: False),
     "one-page-at-an-odd-byte"),
    ("no rounding at the split (R12)", with_function(split, "_whole_blocks", lambda n, _: n), "50-lbs4096-buf-512"),
    ("no trim of a full bio (R5)", with_function(fill, "trim", untrimmed), "50-lbs4096-buf-512"),
    ("segments of 128 KiB (R11)", with_limits(max_segment_size=128 << 10), "runs-of-17-pages"),
    ("no slicing (R11)", with_function(split._Walk, "_slice", one_slice), "runs-of-17-pages"),
]  # fmt: skip
WITNESSED = [(rule, mutate, name) for rule, mutate, names in MUTATIONS for name in names.split()]


@pytest.mark.parametrize(
    ("mutate", "name"), [row[1:] for row in WITNESSED], ids=[f"{rule}, {name}" for rule, _, name in WITNESSED]
)
def test_a_kernel_of_another_rule_does_not_fit_the_capture(mutate, name, captured, monkeypatch):
    capture = Capture.of(captured(name))
    assert residual(capture, predict(capture)) == []
    mutate(monkeypatch)
    assert residual(capture, predict(capture)) != []


def test_twelve_rules_are_put_to_the_test():
    assert len({rule for rule, _, _ in WITNESSED}) == 12
