"""A currency with a bug: pins can be let go of before their time."""

from labkit.kernel.currency.ops import Currency, Hold, Kiocb, Released
from labkit.scatter.payload import Payload
from labkit.trace.snapshot import PinState


class Faulty:
    """Another currency, whose pins somebody may let go of early: the IO goes on, and holds nothing any more."""

    def __init__(self, inner: Currency) -> None:
        """Pin as `inner` does."""
        self.inner, self.name, self.policy, self.per_bio = inner, inner.name, inner.policy, inner.per_bio
        self.taken: dict[int, tuple[Kiocb, Hold]] = {}
        """What is held, by token."""
        self.gone: set[int] = set()
        """Tokens that were let go of early."""

    def zero(self, iocb: Kiocb, start: int, nbytes: int, pinned: Payload | None) -> int:
        """Do what `inner` does."""
        return self.inner.zero(iocb, start, nbytes, pinned)

    def slots(self, iocb: Kiocb, start: int) -> int:
        """Return what `inner` does."""
        return self.inner.slots(iocb, start)

    def pin(self, iocb: Kiocb, start: int, nbytes: int | None = None) -> Hold:
        """Pin, and remember how. Errors: `inner`."""
        hold = self.inner.pin(iocb, start, nbytes)
        self.policy = self.inner.policy
        self.taken[hold.token] = iocb, hold
        return hold

    def unpin(self, iocb: Kiocb, hold: Hold) -> Released:
        """Let go of `hold`; of what went early, only the note that the device uses it still."""
        del self.taken[hold.token]
        if hold.token not in self.gone:
            return self.inner.unpin(iocb, hold)
        iocb.mm.ledger.held.pop(hold.token)
        return Released(0, 0)

    def unpin_early(self) -> tuple[PinState, ...]:
        """Let go of everything that is held, while the device uses it; return what was.

        The ledger keeps the tokens, under policy "none": that is who uses the memory from now on.
        """
        early: list[PinState] = []
        for token, (iocb, hold) in self.taken.items():
            early.append(iocb.mm.ledger.held[token])
            self.inner.unpin(iocb, hold)
            self.gone.add(token)
            iocb.mm.ledger.held[token] = early[-1]._replace(policy="none", since=iocb.mm.frames.now())
        return tuple(early)
