"""What the queue asks of any scheduler (struct elevator_mq_ops)."""

from collections.abc import Sequence
from typing import Protocol

from labkit.kernel.block.bio import Bio
from labkit.kernel.block.limits import QueueLimits
from labkit.kernel.block.merge import Side
from labkit.kernel.block.split import Piece
from labkit.kernel.drivers.ops import Request
from labkit.units import Sector


class Elevator(Protocol):
    """An order for requests that wait. It holds requests, never tags; times are ns."""

    name: str
    looks_up: bool
    """Whether it finds a request by its sectors; nomerges=1 asks for less."""

    def bio_merge(
        self, bio: Bio, piece: Piece, sector: Sector, limits: QueueLimits
    ) -> tuple[Request, tuple[Side, int]] | None:
        """Return the waiting request that `piece` may join, with the side and the segments that it adds."""

    def request_merged(self, rq: Request) -> None:
        """`rq`, which waits, has grown."""

    def merge_neighbour(self, rq: Request, limits: QueueLimits) -> tuple[Request, Request] | None:
        """Return (request, the one behind it) that may be one now that `rq`, one of them, has grown.

        The one behind waits no more.
        """

    def insert_requests(self, rqs: Sequence[Request], now: int) -> None:
        """Let `rqs` wait."""

    def dispatch_request(self, now: int) -> Request | None:
        """Take out, and return, the request that is next; None where none may go now."""

    def completed_request(self, rq: Request, now: int) -> None:
        """`rq`, which was dispatched, is over."""

    def has_work(self) -> bool:
        """Return whether a request waits."""

    def idle_ns(self, now: int) -> int:
        """Return the ns after which a request that may not go now may, even if nothing ends; 0 for none."""
