"""What the kernel tells of itself: tracepoints, bios, and its own types."""
