"""Predictions from the champion bundle."""
