"""What the kernel tells of itself: a private trace instance, its ring buffer, and the events in it."""
