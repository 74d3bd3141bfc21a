"""The reader's own limits, for notebook 08: what the queues of this machine allow, in sentences."""

from dataclasses import dataclass
from html import escape

from labkit.kernel.block.explain import explain
from labkit.kernel.block.limits import QueueLimits
from labkit.machine import Machine
from labkit.machine.own_queues import own_queues


@dataclass(frozen=True, repr=False)
class Limits:
    """The limits of one queue; in Jupyter, and printed, a table of what each of them means."""

    name: str
    limits: QueueLimits
    source: str
    """Where they come from, in a sentence."""

    def __repr__(self) -> str:
        """Return a line for each limit."""
        rows = (f"{told.name:22} {told.value:>22}  {told.sentence} ({told.rule})" for told in explain(self.limits))
        return "\n".join((self.source, *rows))

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(told.name)}</td><td>{escape(told.value)}</td>"
            f"<td style='text-align:left'>{escape(told.sentence)} ({escape(told.rule)})</td></tr>"
            for told in explain(self.limits)
        )
        return f"<p>{escape(self.source)}</p><table>{rows}</table>"


def mine(name: str = "") -> Limits:
    """Return the limits of block device `name` of this machine, of its first one without a name.

    Where there is none, or none of that name, it says so, and gives those of the lab's NVMe drive.
    """
    found = own_queues()
    wanted = name or next(
        (each for each in found if not each.startswith(("loop", "zram", "ram"))), next(iter(found), "")
    )
    if wanted in found:
        return Limits(wanted, found[wanted], f"Read from the queue of {wanted}, of this machine, just now.")
    why = f"No block device {name!r} tells its limits here" if name else "No block device tells its limits here"
    return Limits("nvme0n1", Machine(ram="64 MiB").queue.limits, f"{why}: these are those of the lab's NVMe drive.")
