"""Families for photos."""
