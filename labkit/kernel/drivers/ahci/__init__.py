"""AHCI: a request becomes an ATA command in a slot, with a table that says where its memory is."""
