"""One direct IO, watched from a user buffer to the device and back: start reading at machine.py."""
