"""Texts and photos as numbers."""
