"""An address space: mappings, and the tables that translate them."""
