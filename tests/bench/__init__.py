"""Measurements; nothing here is a test, and nothing here decides whether a test passes."""
