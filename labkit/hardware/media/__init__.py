"""How long it takes: what stores the bytes of a device, as a matter of ns."""
