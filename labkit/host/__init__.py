"""The real floor: what the operating system of this machine does; nothing here is simulated."""
