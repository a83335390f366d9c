"""Fusion families."""
