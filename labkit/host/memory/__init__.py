"""Memory of this machine: made for an IO, and found again as frames and folios."""
