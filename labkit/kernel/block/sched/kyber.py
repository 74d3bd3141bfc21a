"""kyber: requests of a kind take tokens, and there are fewer of them for those who make others slow (MQ-5)."""

from collections.abc import Sequence
from itertools import islice

from labkit.kernel.block.bio import Bio
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.merge import Side, blk_attempt_bio_merge
from labkit.kernel.block.split import Piece
from labkit.kernel.drivers.ops import Request
from labkit.units import Sector

READ, WRITE, DISCARD, OTHER = range(4)
DEPTH = (256, 128, 64, 16)
"""Tokens of each domain at most."""
BATCH = (16, 8, 1, 1)
"""Requests of one domain before it is the turn of the next."""
TARGET = (2_000_000, 10_000_000, 5_000_000_000)
"""ns that a request of the first three domains may take."""
WINDOW = 100_000_000
"""ns from the first completion until tokens are counted anew."""
MERGE_LOOKUPS = 8
"""Requests that are looked at for a merge, newest first."""
_BUCKETS, _GOOD = 8, 4
_ENOUGH, _LONG_ENOUGH = 500, 1_000_000_000
_SHIFT = 2


class Histogram:
    """Latencies in quarters of the target: four buckets are good, four bad, the last one has no end."""

    def __init__(self, target: int) -> None:
        """Begin empty; `target` in ns."""
        self._target, self._since = target, -1
        self.buckets = [0] * _BUCKETS

    def add(self, latency: int) -> None:
        """Count a latency of so many ns."""
        self.buckets[min(max(latency - 1, 0) // (self._target // _GOOD), _BUCKETS - 1)] += 1

    def percentile(self, percent: int, now: int) -> int:
        """Return the bucket that holds the percentile, and begin anew; -1 for too few, until a second has passed."""
        samples = sum(self.buckets)
        if not samples:
            return -1
        if self._since < 0:
            self._since = now
        if samples < _ENOUGH and now - self._since < _LONG_ENOUGH:
            return -1
        rank, bucket = -(-samples * percent // 100), 0
        while bucket < _BUCKETS - 1 and rank > self.buckets[bucket]:
            rank -= self.buckets[bucket]
            bucket += 1
        self.buckets, self._since = [0] * _BUCKETS, -1
        return bucket


class Domain:
    """Requests of one kind: those that wait, and the tokens that let them go."""

    def __init__(self, number: int) -> None:
        """Begin with all tokens there."""
        self.batch = BATCH[number]
        self.most = self.depth = DEPTH[number]
        self.taken = 0
        self.waiting: list[Request] = []
        self.p99 = -1
        target = TARGET[min(number, DISCARD)]
        self.total, self.device = Histogram(target), Histogram(target)

    def may_go(self) -> bool:
        """Return whether a request waits, and there is a token for it."""
        return bool(self.waiting) and self.taken < self.depth


class Kyber:
    """Tokens by kind, counted by what latencies turn out to be."""

    name = "kyber"
    looks_up = False

    def __init__(self) -> None:
        """Begin with every domain at its full depth."""
        self.domains = [Domain(number) for number in range(len(DEPTH))]
        self._at = self._batching = 0
        self._window = -1

    def bio_merge(
        self, bio: Bio, piece: Piece, sector: Sector, limits: QueueLimits
    ) -> tuple[Request, tuple[Side, int]] | None:
        """Look at the newest requests of the same kind, eight at most (MERGE-5)."""
        for rq in islice(reversed(self.domains[WRITE if bio.write else READ].waiting), MERGE_LOOKUPS):
            joined = blk_attempt_bio_merge(rq, bio, piece, sector, limits)
            if joined is not None:
                return rq, joined
        return None

    def request_merged(self, rq: Request) -> None:
        """Nothing is sorted."""

    def merge_neighbour(self, rq: Request, limits: QueueLimits) -> None:
        """Nobody knows his neighbour."""

    def insert_requests(self, rqs: Sequence[Request], now: int) -> None:
        """Let `rqs` wait in their domains."""
        for rq in rqs:
            rq.stats["inserted"] = now
            self.domains[_domain(rq)].waiting.append(rq)

    def dispatch_request(self, now: int) -> Request | None:
        """Go on with the batch of one domain, or turn to the next that has a request and a token."""
        if self._batching < self.domains[self._at].batch and self.domains[self._at].may_go():
            return self._take(now)
        self._batching = 0
        for _ in self.domains:
            self._at = (self._at + 1) % len(self.domains)
            if self.domains[self._at].may_go():
                return self._take(now)
        return None

    def _take(self, now: int) -> Request:
        domain = self.domains[self._at]
        self._batching += 1
        domain.taken += 1
        rq = domain.waiting.pop(0)
        rq.stats["dispatched"] = now
        return rq

    def completed_request(self, rq: Request, now: int) -> None:
        """Take back the token, note how long it took, and count tokens anew where a window has passed."""
        if "dispatched" not in rq.stats:
            return
        domain = self.domains[_domain(rq)]
        domain.taken -= 1
        domain.total.add(now - rq.stats["inserted"])
        domain.device.add(now - rq.stats.pop("dispatched"))
        if self._window < 0:
            self._window = now + WINDOW
        elif now >= self._window:
            self._window = -1
            self._resize(now)

    def _resize(self, now: int) -> None:
        """Where the device is slow for anybody, take tokens from those who are well; give some to those who are not."""
        judged = self.domains[:OTHER]
        p90 = [domain.device.percentile(90, now) for domain in judged]  # every one begins anew
        congested = max(p90) >= _GOOD
        for domain in judged:
            p99 = domain.total.percentile(99, now)
            if congested:
                p99, domain.p99 = (domain.p99 if p99 < 0 else p99), -1
            elif p99 >= 0:
                domain.p99 = p99
            if p99 >= 0 and (congested or p99 >= _GOOD):
                domain.depth = min(max(domain.depth * (p99 + 1) >> _SHIFT, 1), domain.most)

    def has_work(self) -> bool:
        """Return whether a request waits."""
        return any(domain.waiting for domain in self.domains)

    def idle_ns(self, now: int) -> int:  # noqa: ARG002 - the protocol's
        """Tokens come back with completions alone."""
        return 0


def _domain(rq: Request) -> int:
    return OTHER if rq.is_flush else WRITE if rq.write else READ
