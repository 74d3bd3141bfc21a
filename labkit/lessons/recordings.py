"""A real run where this machine allows one, a recording of one where it does not, and never one for the other."""

from labkit.errors import NotAllowed
from labkit.machine import DATA, Machine
from labkit.trace.store import load
from labkit.trace.trace import Trace
from labkit.witness import memory
from labkit.witness.demos import DEMOS
from labkit.witness.record import RECORDINGS


def real_or_recorded(name: str) -> Trace:
    """Return the trace of the run `name` of witness.record, or its recording, and print which of the two it is.

    The line that is printed gives the reason and the remedy when it is the recording; `trace.meta["recorded"]` then
    says when and on which kernel it was made.
    """
    try:
        with Machine(**RECORDINGS[name]) as machine:
            machine.run()
            print(f"Run just now on {machine.disk}, a real loop device of this machine.")  # noqa: T201
            return machine.trace
    except NotAllowed as bad:
        trace = load(DATA / "recordings" / f"{name}.json.gz")
        made = trace.meta.get("recorded", {})
        print(f"{bad}. Shown instead: a recording of {made.get('date')}, Linux {made.get('kernel')}.")  # noqa: T201
        return trace


def kernel_or_recorded() -> tuple[memory.Answer, ...]:
    """Return what this kernel says to O_DIRECT from each kind of memory, or a recording, and print which it is.

    The model is asked now in either case.
    """
    shown = DEMOS["memory-kinds"].show()
    print(shown.line)  # noqa: T201
    return memory.answers(shown.seen.rows)
