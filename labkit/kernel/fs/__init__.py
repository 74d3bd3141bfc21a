"""Files: a position in a file becomes a place on a device. So far the raw block device alone."""
