"""Families for titles and descriptions."""
