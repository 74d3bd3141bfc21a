"""The descent: syscall, dio, currency, fs, block, drivers, dma; mm beside them."""
