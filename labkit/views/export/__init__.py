"""A trace becomes a file of another tool: pure functions, from a trace to text or to a table."""
