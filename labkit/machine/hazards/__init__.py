"""Somebody gets in the way of an IO, as memory management, a user or a bug does; the bytes tell what came of it."""
