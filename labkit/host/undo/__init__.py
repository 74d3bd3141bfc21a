"""What was changed or made outside of this process, and how all of it is taken back."""

from labkit.host.undo.changes import Undo, sweep

__all__ = ["Undo", "sweep"]
