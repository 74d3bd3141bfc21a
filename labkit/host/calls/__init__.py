"""Calls to this machine's kernel: IO by addresses, rings, and who else may make them."""
