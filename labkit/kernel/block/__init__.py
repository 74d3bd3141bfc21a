"""Bios become requests that fit their queue."""
