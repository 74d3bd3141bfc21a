"""Parts of folios become bios: one for as long as it goes on both in memory and on the device."""

import errno
from collections.abc import Callable, Iterable
from typing import NamedTuple

from labkit.hardware.clock import Steps
from labkit.kernel.block.bio import BIO_MAX_SIZE, BIO_MAX_VECS, NOT_OF_THE_IO, PLAIN, Bio, Op
from labkit.kernel.block.plug import Plug
from labkit.kernel.fs.cache.core import Core
from labkit.scatter.phyr import phyrs_of
from labkit.units import SECTOR_SHIFT, Sector


class Part(NamedTuple):
    """`nbytes` of the file from byte `pos` on: on the device from byte `dev` on, in memory from `phys` on."""

    pos: int
    dev: int
    phys: int
    nbytes: int
    unwritten: bool = False


EndIo = Callable[[Bio, Part], None]
"""Called when a bio has ended, with it and with what of the file it was."""


def joined(parts: Iterable[Part]) -> list[list[Part]]:
    """Return `parts` in groups of what one bio can carry: it goes on in the file and on the device, all of one kind."""
    out: list[list[Part]] = []
    size = 0
    for part in parts:
        last = out[-1][-1] if out else None
        goes_on = last is not None and (last.pos + last.nbytes, last.dev + last.nbytes, last.unwritten) == (
            part.pos, part.dev, part.unwritten,
        )  # fmt: skip
        if goes_on and len(out[-1]) < BIO_MAX_VECS and size + part.nbytes <= BIO_MAX_SIZE:
            out[-1].append(part)
            size += part.nbytes
        else:
            out.append([part])
            size = part.nbytes
    return out


def submit(core: Core, io: int, parts: Iterable[Part], end_io: EndIo, *, write: bool, opf: Op = PLAIN) -> Steps:
    """Send bios for `parts`, under one plug; `end_io` hears of each. Nothing of them stays behind, whatever happens."""
    bios = [_bio(core, io, group, end_io, write=write, opf=opf) for group in joined(parts)]
    plug, sent = Plug(), 0
    try:
        for bio in bios:
            yield core.cpu.bio_alloc
            sent += 1
            yield from core.queue.submit_bio(bio, plug)
        yield from plug.flush()
    except BaseException:
        for queue, rqs in plug.take():
            queue.insert(rqs)
        raise
    finally:
        for bio in bios[sent:]:
            bio.endio(errno.EIO)


def _bio(core: Core, io: int, group: list[Part], end_io: EndIo, *, write: bool, opf: Op) -> Bio:
    payload = phyrs_of([part.phys for part in group], [part.nbytes for part in group])
    whole = group[0]._replace(nbytes=payload.nbytes)
    bio = Bio(core.env, next(core.bios), io, Sector(whole.dev >> SECTOR_SHIFT), payload, write=write, opf=opf)
    bio.start = NOT_OF_THE_IO
    bio.end_io = lambda ended: end_io(ended, whole)
    return bio
