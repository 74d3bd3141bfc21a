"""Frames become folios: who counts on them, who holds them, and when they go back."""
