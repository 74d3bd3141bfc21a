"""Files: a position in a file becomes a place on a device, and its bytes stay in the page cache meanwhile."""
