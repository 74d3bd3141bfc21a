"""The medium of a device, with memory of its own size."""

from pathlib import Path
from typing import Any, TypeVar

from labkit.hardware.media.stored import Stored
from labkit.hardware.table import profile
from labkit.host.memory.arena import arena
from labkit.machine.build.board import Board

_S = TypeVar("_S", bound=Stored[Any])


def medium_of(board: Board, path: Path, kind: type[_S]) -> _S:
    """Return a medium of `kind` with the numbers at `path` and those of the scenario. Raises BadInput for nonsense."""
    numbers = profile(kind.numbers, path, board.scenario.profile, kind.bounds)
    return kind(board.clock, arena(numbers.nbytes), numbers, board.scenario.seed)
