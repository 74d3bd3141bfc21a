"""Traces become columns: pure functions, no drawing library, no engine."""
