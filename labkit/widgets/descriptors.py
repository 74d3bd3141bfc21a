"""The bytes of a command drawn: a submission queue entry, PRP lists or SGLs, a chain of virtio, the table of AHCI.

    from labkit.widgets.descriptors import Descriptors
    Descriptors(m.trace)
    Descriptors(m.trace, rq=3)

Run, this module writes a page of a command that is typed out here, and says where.
"""

import sys
from functools import partial

from labkit.trace.events import NvmeSetupCmd
from labkit.trace.trace import Trace
from labkit.views import descriptors as view
from labkit.views.steps import NARROW, WIDE
from labkit.widgets.scene import Scene, Staged, Theme, script, style, write
from labkit.widgets.timed import ACT, figure, placed

_LABEL = "The bytes of a command in hex, and beside them the name, the value and the meaning of each field"


def scene(trace: Trace, rq: int | None = None) -> Scene:
    """Return the scene of request `rq`'s command, of the first one of `trace` without a number."""
    found = [rec for rec in view.commands(trace) if rq is None or rec.rq == rq]
    rec = next(iter(found), None)
    pictures = {"wide": view.descriptors(rec, WIDE), "narrow": view.descriptors(rec, NARROW)}
    head, under = view.headline(rec, len(found))
    steps = pictures["wide"].steps
    drawn = set(pictures["wide"].shapes["role"])
    pointers = [i for i, step in enumerate(steps) if step.layer == view.KINDS["address"]]
    return Scene(
        head=head,
        under=under,
        label=_LABEL,
        steps=steps,
        figures={name: partial(figure, picture, _LABEL) for name, picture in pictures.items() if steps},
        data=placed(pictures),
        legend=[(f"x-f{kind}", text) for kind, text in view.KINDS.items() if f"f{kind}" in drawn],
        poster=pointers[0] if pointers else 0,
    )


class Descriptors(Staged):
    """A command's bytes in a notebook: of request `rq`, or of the first one."""

    act = ACT
    _esm = script(ACT, "host.js")
    _css = style()

    def __init__(self, trace: Trace, rq: int | None = None, theme: Theme = "auto") -> None:
        """Show the command of `trace`."""
        super().__init__(scene(trace, rq), theme)


def sample() -> Trace:
    """Return the read of 12 KiB at block 8, typed out: PRP1 512 bytes into a page, and a PRP list of three entries."""
    one, listed = (0xFFFF_8200).to_bytes(8, "little"), (0x4300_0000).to_bytes(8, "little")
    pages = b"".join((0xFFFF_9000 + (i << 12)).to_bytes(8, "little") for i in range(3))
    sqe = bytes((2, 0, 7, 0, 1, 0, 0, 0)) + bytes(16) + one + listed + (8).to_bytes(8, "little")
    sqe += (23).to_bytes(2, "little") + (0x4000).to_bytes(2, "little") + bytes(12)
    rec = NvmeSetupCmd(700, 1, 1, 7, 8, 12288, 0xFFFF_8200, 0x4300_0000, 4, 256, sqe.hex(), "prp",
                       f"0x43000000:{pages.hex()}")  # fmt: skip
    return Trace((rec,), meta={"kernel": "7.3"})


def main() -> None:
    """Write the page of the sample to a temporary file, and print its path."""
    sys.stdout.write(f"{write(scene(sample()), ACT)}\n")


if __name__ == "__main__":
    main()
