"""Memory: frames, folios, address spaces, pins. Timeless: every function returns what it did, and the caller pays."""
