"""Files become memory: what was read is kept, what is written goes out later (mm/filemap.c, fs/iomap/buffered-io.c)."""
