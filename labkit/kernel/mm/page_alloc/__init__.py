"""Physical memory becomes frames: zones, the buddy allocator, and what age does to both."""
