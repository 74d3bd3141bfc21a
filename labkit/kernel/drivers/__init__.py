"""Requests become commands in their device's own words."""
