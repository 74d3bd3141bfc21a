"""Something breaks in the midst of an IO: the medium, the device, the bus, the room for addresses; and the IO ends."""
