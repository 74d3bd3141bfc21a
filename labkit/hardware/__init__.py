"""The simulated floor: memory, buses and devices. It sees bus addresses only."""
