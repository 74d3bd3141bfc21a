"""The one place where the compared systems differ: what flows, when it is pinned, and when it is let go of."""
