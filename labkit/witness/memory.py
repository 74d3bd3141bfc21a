"""A page of each kind of memory is written to a file with O_DIRECT: the model's word, and this kernel's."""

import errno
from collections.abc import Sequence
from typing import Any, NamedTuple

from labkit.errors import LabkitError, NotAllowed
from labkit.machine import Machine
from labkit.units import PAGE_SIZE


class Answer(NamedTuple):
    """What was said about memory of `kind` (a name of data/kinds.toml): bytes, or the name of an errno.

    `page` and `phyr` are the model in its two systems, `kernel` is the real one, and `buffered` the same without
    O_DIRECT.
    """

    kind: str
    page: int | str
    phyr: int | str
    kernel: int | str
    buffered: int | str

    @property
    def agree(self) -> bool:
        """Whether the model of today's kernel is right about this kind."""
        return self.page == self.kernel


def ask() -> tuple[Answer, ...]:
    """Return what model and kernel say now. Raises NotAllowed where this machine does not let it be asked."""
    try:
        from labkit.host import vvar  # noqa: PLC0415 - recordings are shown where there is no fcntl
    except ImportError as no:
        raise NotAllowed("witness", "this Python", f"lacks {no.name}: run it on Linux", errno.ENOSYS) from None
    return answers(vvar.ask())


def answers(said: Sequence[Sequence[Any]]) -> tuple[Answer, ...]:
    """Return `said`, rows of kind, what the kernel said with O_DIRECT and without, beside what the model says now."""
    return tuple(Answer(kind, _model("page", kind), _model("phyr", kind), *rest) for kind, *rest in said)


def _model(system: str, kind: str) -> int | str:
    """Return what the model says to a pwrite of one page."""
    task = Machine(ram="64 MiB", system=system).task()
    fd = task.open("/dev/nvme0n1", "O_WRONLY|O_DIRECT")
    try:
        return task.pwrite(fd, task.mmap(PAGE_SIZE, folio=kind), PAGE_SIZE)
    except LabkitError as no:
        return no.errno_name
