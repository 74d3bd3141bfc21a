"""An NVMe controller: what it and its driver agree on, how it finds memory, and what it does."""
