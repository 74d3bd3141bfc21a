"""Ways to keep memory from going away while a device uses it, and the ledger of who does."""
